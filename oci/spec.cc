#include "oci/spec.h"

#include <algorithm>
#include <array>
#include <iterator>

#include "oci/mount_options.h"
#include "oci/spec_readers.h"
#include "oci/words.h"

namespace bulkhead::oci {
namespace {

constexpr size_t kMaxBytes = 4U << 20U;

}  // namespace

void ReadFields(const Fields& fields, Root& out) {
  fields.Require("path", out.path);
  fields.Get("readonly", out.readonly);
}

void ReadFields(const Fields& fields, Mount& out) {
  fields.Require("destination", out.destination);
  fields.Get("type", out.type);
  fields.Get("source", out.source);
  fields.Get("options", out.options);
  if (out.destination.empty()) {
    fields.Fail("destination", "must not be empty");
  }
  fields.Get("uidMappings", out.uid_mappings);
  fields.Get("gidMappings", out.gid_mappings);
}

void ReadFields(const Fields& fields, Namespace& out) {
  fields.Require("type", out.type);
  fields.Get("path", out.path);
  constexpr std::array<std::string_view, 8> kTypes{"pid",   "network", "ipc",    "uts",
                                                   "mount", "user",    "cgroup", "time"};
  if (std::find(kTypes.begin(), kTypes.end(), out.type) == kTypes.end()) {
    fields.Fail("type", fmt::format("unknown type \"{}\"", out.type));
  }
}

void ReadFields(const Fields& fields, IdMapping& out) {
  fields.Require("containerID", out.container_id);
  fields.Require("hostID", out.host_id);
  fields.Require("size", out.size);
}

void ReadFields(const Fields& fields, Device& out) {
  fields.Require("type", out.type);
  fields.Require("path", out.path);
  fields.Get("major", out.major);
  fields.Get("minor", out.minor);
  fields.Get("fileMode", out.file_mode);
  fields.Get("uid", out.uid);
  fields.Get("gid", out.gid);
  if (out.type.size() != 1 || std::string_view("cubp").find(out.type) == std::string_view::npos) {
    fields.Fail("type", "expected c, u, b or p");
  }
}

struct Personality {
  std::string domain;
};

void ReadFields(const Fields& fields, Personality& out) {
  fields.Refuse("flags", "flags of an execution domain are");
  fields.Require("domain", out.domain);
  fields.Check("domain", PersonalityDomain(out.domain));
}

void ReadFields(const Fields& fields, TimeOffset& out) {
  fields.Get("secs", out.secs);
  fields.Get("nanosecs", out.nanosecs);
  if (out.nanosecs >= 1'000'000'000) {
    fields.Fail("nanosecs", "must be less than a second");
  }
}

void ReadFields(const Fields& fields, Linux& out) {
  fields.Get("namespaces", out.namespaces);
  fields.Get("uidMappings", out.uid_mappings);
  fields.Get("gidMappings", out.gid_mappings);
  fields.Get("devices", out.devices);
  fields.Get("cgroupsPath", out.cgroups_path);
  fields.Get("resources", out.resources);
  fields.Get("seccomp", out.seccomp);
  fields.Get("sysctl", out.sysctl);
  fields.Get("rootfsPropagation", out.rootfs_propagation);
  fields.Get("maskedPaths", out.masked_paths);
  fields.Get("readonlyPaths", out.readonly_paths);
  fields.Refuse("intelRdt", "Intel RDT is");
  fields.Refuse("netDevices", "moving of network devices is");
  fields.Refuse("memoryPolicy", "memory policies (the guest is one NUMA node) are");
  fields.GetWithoutEffect<std::string>("mountLabel", "");  // the guest has no SELinux
  Personality personality;
  fields.Get("personality", personality);
  out.personality = std::move(personality.domain);
  fields.Get("timeOffsets", out.time_offsets);
  for (const auto& [clock, offset] : out.time_offsets) {
    if (clock != "monotonic" && clock != "boottime") {
      fields.Fail("timeOffsets", fmt::format("unknown clock \"{}\"", clock));
    }
  }
  if (out.rootfs_propagation.empty()) {
    return;
  }
  fields.Check("rootfsPropagation", ParsePropagation(out.rootfs_propagation));
}

void ReadFields(const Fields& fields, Hook& out) {
  fields.Require("path", out.path);
  fields.Get("args", out.args);
  fields.Get("env", out.env);
  fields.Get("timeout", out.timeout);
  if (!out.path.starts_with('/')) {
    fields.Fail("path", "must be an absolute path");
  }
  if (out.timeout && *out.timeout <= 0) {
    fields.Fail("timeout", "must be more than zero");
  }
}

void ReadFields(const Fields& fields, Hooks& out) {
  fields.Get("prestart", out.prestart);
  fields.Get("createRuntime", out.create_runtime);
  fields.Get("createContainer", out.create_container);
  fields.Get("startContainer", out.start_container);
  fields.Get("poststart", out.poststart);
  fields.Get("poststop", out.poststop);
}

void ReadFields(const Fields& fields, Spec& out) {
  fields.Require("ociVersion", out.version);
  fields.Require("root", out.root);
  fields.Get("process", out.process);
  fields.Get("hostname", out.hostname);
  fields.Get("domainname", out.domainname);
  fields.Get("mounts", out.mounts);
  fields.Get("annotations", out.annotations);
  fields.Get("linux", out.linux_);
  if (!out.version.starts_with("1.")) {
    fields.Fail("ociVersion", "expected version 1 of the specification");
  }
  fields.Get("hooks", out.hooks);
  fields.Refuse("windows", "Windows containers are");
  fields.Refuse("solaris", "Solaris containers are");
  fields.Refuse("zos", "z/OS containers are");
  fields.Refuse("freebsd", "FreeBSD containers are");
  fields.Refuse("vm", "a virtual machine's own settings are");
}

namespace {

template <typename T>
Result<T> Parse(std::string_view text, const char* document, std::vector<std::string>* warnings) {
  Outcome outcome(document);
  if (text.size() > kMaxBytes) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: longer than {} bytes", document, kMaxBytes);
  }
  const json value = json::parse(text, nullptr, false);
  if (value.is_discarded()) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: not valid JSON", document);
  }
  T out;
  Read(outcome, value, "", out);
  if (!outcome.ok()) {
    return tl::unexpected<Error>(outcome.TakeError());
  }
  if (warnings != nullptr) {
    std::ranges::move(outcome.TakeWarnings(), std::back_inserter(*warnings));
  }
  return out;
}

}  // namespace

Result<Spec> ParseSpec(std::string_view text) {
  std::vector<std::string> warnings;
  Spec spec = TRY(Parse<Spec>(text, "config.json", &warnings));
  spec.warnings = std::move(warnings);
  return spec;
}

Result<Process> ParseProcess(std::string_view text, std::vector<std::string>* warnings) {
  return Parse<Process>(text, "process", warnings);
}

Result<Resources> ParseResources(std::string_view text, std::vector<std::string>* warnings) {
  return Parse<Resources>(text, "linux.resources", warnings);
}

}  // namespace bulkhead::oci
