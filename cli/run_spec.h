// The OCI specification of a container as docker would make it: a pure function of what was asked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/run_options.h"
#include "oci/image_json.h"
#include "oci/spec.h"
#include "oci/user.h"

namespace bulkhead::cli {

struct SpecInput {
  const RunOptions& options;
  const oci::ImageConfig& image;  // empty for a rootfs folder
  const oci::ResolvedUser& user;
  std::string hostname;
  // Folder with the files hosts, hostname and resolv.conf; empty: the image's own stay.
  std::string etc_folder;
  std::optional<oci::ConsoleSize> console_size;
  std::optional<oci::Seccomp> seccomp_profile;  // of --security-opt seccomp=FILE
};

// Fails when there is no command to run.
Result<oci::Spec> BuildSpec(const SpecInput& input);

// Docker's 14, then --cap-drop and --cap-add applied in docker's order.
std::vector<std::string> BoundingCapabilities(const std::vector<std::string>& add,
                                              const std::vector<std::string>& drop);
// Entrypoint and command as docker combines them.
std::vector<std::string> CommandLine(const RunOptions& options, const oci::ImageConfig& image);

// The linux.seccomp part of config.json, or a Docker profile of its basic form.
Result<oci::Seccomp> ParseSeccompProfile(const std::string& text, const std::string& name);

}  // namespace bulkhead::cli
