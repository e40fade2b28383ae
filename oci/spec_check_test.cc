#include "oci/spec_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bulkhead::oci {
namespace {

using ::testing::HasSubstr;

Spec With(std::vector<std::string> kinds) {
  Spec spec;
  for (const std::string& kind : kinds) {
    spec.linux_.namespaces.push_back({kind, ""});
  }
  return spec;
}

std::string ErrorOf(const Spec& spec) {
  const Status status = CheckSpec(spec);
  return status ? "" : status.error().message();
}

std::string SysctlError(const std::string& name, std::vector<std::string> kinds) {
  Spec spec = With(std::move(kinds));
  spec.linux_.sysctl[name] = "1";
  return ErrorOf(spec);
}

TEST(SpecCheck, SysctlsNeedTheirNamespace) {
  for (const char* name : {"kernel.shmmax", "kernel.sem", "fs.mqueue.msg_max", "kernel/msgmni"}) {
    EXPECT_EQ(SysctlError(name, {"mount", "ipc"}), "");
    EXPECT_THAT(SysctlError(name, {"mount", "network", "uts"}), HasSubstr(name));
    EXPECT_THAT(SysctlError(name, {"mount"}), HasSubstr("ipc"));
  }
  EXPECT_EQ(SysctlError("net.ipv4.ip_forward", {"network"}), "");
  EXPECT_EQ(SysctlError("net/ipv4/conf/eth0.5/forwarding", {"network"}), "");
  EXPECT_THAT(SysctlError("net.ipv4.ip_forward", {"ipc"}), HasSubstr("network"));
  EXPECT_EQ(SysctlError("kernel.domainname", {"uts"}), "");
  EXPECT_THAT(SysctlError("kernel.domainname", {}), HasSubstr("kernel.domainname"));
  EXPECT_THAT(SysctlError("kernel.hostname", {"uts"}), HasSubstr("field of its own: hostname"));
}

TEST(SpecCheck, SysctlsOfTheWholeKernelAreThePods) {
  for (const char* name : {"vm.swappiness", "kernel.pid_max", "kernel.shm", "netx.y"}) {
    EXPECT_EQ(SysctlError(name, {"mount"}), "");
  }
  for (const char* name :
       {"net.ipv4/../../kernel/core_pattern", "net/../kernel/core_pattern", "../x"}) {
    EXPECT_THAT(SysctlError(name, {"mount", "network"}), HasSubstr(name));
  }
}

TEST(SpecCheck, NamesNeedAUtsNamespace) {
  Spec spec = With({"mount"});
  spec.hostname = "box";
  EXPECT_THAT(ErrorOf(spec), HasSubstr("hostname: needs"));
  spec.hostname.clear();
  spec.domainname = "example";
  EXPECT_THAT(ErrorOf(spec), HasSubstr("domainname: needs"));
  spec.linux_.namespaces.push_back({"uts", ""});
  EXPECT_EQ(ErrorOf(spec), "");
}

TEST(SpecCheck, TimeOffsetsNeedANewTimeNamespace) {
  Spec spec = With({"mount"});
  spec.linux_.time_offsets["boottime"] = {5, 0};
  EXPECT_THAT(ErrorOf(spec), HasSubstr("linux.timeOffsets"));
  spec.linux_.namespaces.push_back({"time", "/proc/1/ns/time"});
  EXPECT_THAT(ErrorOf(spec), HasSubstr("linux.timeOffsets"));
  spec.linux_.namespaces.back().path.clear();
  EXPECT_EQ(ErrorOf(spec), "");
}

TEST(SpecCheck, ANamespaceTwice) {
  EXPECT_THAT(ErrorOf(With({"mount", "pid", "mount"})), HasSubstr("\"mount\""));
}

}  // namespace
}  // namespace bulkhead::oci
