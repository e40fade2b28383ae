#include "oci/features.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "oci/mount_options.h"
#include "oci/words.h"

namespace bulkhead::oci {
namespace {

using nlohmann::json;

std::vector<std::string> Sorted(std::vector<std::string> names) {
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

std::string FeaturesJson(const std::string& version, bool hooks) {
  json features{
      {"ociVersionMin", "1.0.0"},
      {"ociVersionMax", "1.2.0"},
      {"mountOptions", Sorted(MountOptionNames())},
      {"linux",
       {{"capabilities", AllCapabilities()},
        {"namespaces", {"cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"}},
        {"cgroup",
         {{"v1", true}, {"v2", true}, {"systemd", false}, {"systemdUser", false}, {"rdma", false}}},
        {"seccomp",
         {{"enabled", true},
          {"actions", kSeccompActions},
          {"operators", kSeccompOperators},
          {"archs", kSeccompArchitectures},
          {"knownFlags", kSeccompFlags},
          {"supportedFlags", kSeccompFlags}}},
        {"apparmor", {{"enabled", false}}},
        {"selinux", {{"enabled", false}}},
        {"intelRdt", {{"enabled", false}}},
        {"mountExtensions", {{"idmap", {{"enabled", true}}}}}}},
      {"annotations", {{"io.bulkhead.version", version}}}};
  if (hooks) {
    features["hooks"] = {"prestart",       "createRuntime", "createContainer",
                         "startContainer", "poststart",     "poststop"};
  }
  return features.dump(4) + "\n";
}

}  // namespace bulkhead::oci
