// Which of two meanings a command line has: `run` of an image or a folder, or of an OCI bundle, as
// engines call it.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace bulkhead::cli {

inline constexpr char kBundleRun[] = "run-bundle";

// The place of the command's name among the arguments, behind the global options; or their number.
size_t CommandAt(const std::vector<std::string>& arguments);

// `run` becomes kBundleRun when a bundle is named, or when its one operand is an id: no file has
// the name, and there is a config.json here.
std::vector<std::string> ChooseRun(std::vector<std::string> arguments,
                                   const std::function<bool(const std::string&)>& exists);

// Commands that engines alone call: they fail with 1, as runc does.
bool IsEngineCommand(const std::string& name);

}  // namespace bulkhead::cli
