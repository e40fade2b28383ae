// The linux.seccomp object of config.json.
#include <algorithm>

#include "oci/spec_readers.h"
#include "oci/words.h"

namespace bulkhead::oci {
namespace {

constexpr uint32_t kLastArgument = 5;
constexpr char kNoListener[] = "seccomp notification (to a program of the host) is";

void CheckWord(const Fields& fields, const char* name, const auto& known, const std::string& word) {
  if (std::find(known.begin(), known.end(), word) == known.end()) {
    fields.Fail(name, fmt::format("unknown word \"{}\"", word));
  }
}

void CheckAction(const Fields& fields, const char* name, const std::string& action,
                 const char* errno_name, bool has_errno) {
  if (action == "SCMP_ACT_NOTIFY") {
    return fields.Unsupported(name, kNoListener);
  }
  CheckWord(fields, name, kSeccompActions, action);
  if (has_errno && action != "SCMP_ACT_ERRNO" && action != "SCMP_ACT_TRACE") {
    fields.Fail(errno_name, fmt::format("has no meaning with {}", action));
  }
}

}  // namespace

void ReadFields(const Fields& fields, SeccompArg& out) {
  fields.Require("index", out.index);
  fields.Require("value", out.value);
  fields.Get("valueTwo", out.value_two);
  fields.Require("op", out.op);
  CheckWord(fields, "op", kSeccompOperators, out.op);
  if (out.index > kLastArgument) {
    fields.Fail("index", "a system call has six arguments: expected 0 to 5");
  }
}

void ReadFields(const Fields& fields, SeccompRule& out) {
  fields.Require("names", out.names);
  fields.Require("action", out.action);
  fields.Get("errnoRet", out.errno_ret);
  CheckAction(fields, "action", out.action, "errnoRet", out.errno_ret.has_value());
  fields.Get("args", out.args);
  if (out.names.empty()) {
    fields.Fail("names", "needs at least one name");
  }
}

void ReadFields(const Fields& fields, Seccomp& out) {
  fields.Require("defaultAction", out.default_action);
  fields.Get("defaultErrnoRet", out.default_errno_ret);
  fields.Get("architectures", out.architectures);
  fields.Get("flags", out.flags);
  CheckAction(fields, "defaultAction", out.default_action, "defaultErrnoRet",
              out.default_errno_ret.has_value());
  for (const std::string& name : out.architectures) {
    CheckWord(fields, "architectures", kSeccompArchitectures, name);
  }
  for (const std::string& name : out.flags) {
    CheckWord(fields, "flags", kSeccompFlags, name);
  }
  fields.Get("syscalls", out.rules);
  fields.Refuse("listenerPath", kNoListener);
  fields.Refuse("listenerMetadata", kNoListener);
}

}  // namespace bulkhead::oci
