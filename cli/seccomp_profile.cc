// Seccomp profiles from files: the linux.seccomp object of OCI, which is also the basic form of
// Docker's profiles. The conditional parts of Docker's (includes, excludes, archMap) are refused by
// name, rather than ignored.
#include <nlohmann/json.hpp>

#include "cli/run_spec.h"

namespace bulkhead::cli {
namespace {

using Json = nlohmann::json;

std::vector<std::string> Strings(const Json& object, const char* key) {
  return object.contains(key) ? object.at(key).get<std::vector<std::string>>()
                              : std::vector<std::string>{};
}

oci::SeccompRule ParseRule(const Json& json) {
  oci::SeccompRule rule;
  rule.names = Strings(json, "names");
  if (json.contains("name")) {
    rule.names.push_back(json.at("name").get<std::string>());
  }
  rule.action = json.at("action").get<std::string>();
  if (json.contains("errnoRet")) {
    rule.errno_ret = json.at("errnoRet").get<uint32_t>();
  }
  if (json.contains("args") && !json.at("args").is_null()) {
    for (const Json& arg : json.at("args")) {
      rule.args.push_back({arg.at("index").get<uint32_t>(), arg.at("value").get<uint64_t>(),
                           arg.value("valueTwo", uint64_t{0}), arg.at("op").get<std::string>()});
    }
  }
  return rule;
}

}  // namespace

Result<oci::Seccomp> ParseSeccompProfile(const std::string& text, const std::string& name) {
  try {
    const Json json = Json::parse(text);
    oci::Seccomp seccomp;
    seccomp.default_action = json.at("defaultAction").get<std::string>();
    if (json.contains("defaultErrnoRet")) {
      seccomp.default_errno_ret = json.at("defaultErrnoRet").get<uint32_t>();
    }
    if (json.contains("archMap")) {
      return MakeError(ErrorCode::kUnimplemented, "{}: archMap is not supported; use architectures",
                       name);
    }
    seccomp.architectures = Strings(json, "architectures");
    seccomp.flags = Strings(json, "flags");
    if (json.contains("syscalls")) {
      for (const Json& rule : json.at("syscalls")) {
        for (const char* key : {"includes", "excludes"}) {
          if (rule.contains(key) && !rule.at(key).empty()) {
            return MakeError(ErrorCode::kUnimplemented, "{}: syscalls.{} is not supported", name,
                             key);
          }
        }
        seccomp.rules.push_back(ParseRule(rule));
      }
    }
    return seccomp;
  } catch (const Json::exception& error) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: not a seccomp profile: {}", name,
                     error.what());
  }
}

}  // namespace bulkhead::cli
