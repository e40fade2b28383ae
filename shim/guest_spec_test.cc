#include "shim/guest_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/sys.h"
#include "base/temp_dir.h"

namespace bulkhead::shim {
namespace {

using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using Kind = PodRole::Kind;

oci::Spec WithAnnotations(std::map<std::string, std::string> annotations) {
  oci::Spec spec;
  spec.annotations = std::move(annotations);
  return spec;
}

TEST(RoleOf, KnowsTheAnnotationsOfCriPlugins) {
  EXPECT_EQ(RoleOf({}, "a")->kind, Kind::kAlone);
  const auto sandbox = RoleOf(Annotations({{"io.kubernetes.cri.container-type", "sandbox"}}), "a");
  EXPECT_EQ(sandbox->kind, Kind::kSandbox);
  EXPECT_EQ(sandbox->sandbox_id, "a");
  const auto member = RoleOf(Annotations({{"io.kubernetes.cri.container-type", "container"},
                                          {"io.kubernetes.cri.sandbox-id", "a"}}),
                             "b");
  EXPECT_EQ(member->kind, Kind::kMember);
  EXPECT_EQ(member->sandbox_id, "a");
  EXPECT_EQ(RoleOf(Annotations({{"io.kubernetes.cri-o.ContainerType", "container"},
                                {"io.kubernetes.cri-o.SandboxID", "z"}}),
                   "b")
                ->sandbox_id,
            "z");
}

TEST(RoleOf, RefusesAMemberOfNoPod) {
  const auto role = RoleOf(Annotations({{"io.kubernetes.cri.container-type", "container"}}), "b");
  ASSERT_FALSE(role);
  EXPECT_THAT(role.error().message(), HasSubstr("io.kubernetes.cri.sandbox-id"));
  EXPECT_FALSE(RoleOf(Annotations({{"io.kubernetes.cri.container-type", "pause"}}), "b"));
}

TEST(HostNetworkOf, EachForm) {
  oci::Spec spec;
  EXPECT_EQ(HostNetworkOf(spec).kind, NetworkNamespace::Kind::kHost);
  spec.linux_.namespaces = {{"network", ""}};
  EXPECT_EQ(HostNetworkOf(spec).kind, NetworkNamespace::Kind::kNew);
  spec.linux_.namespaces = {{"network", "/run/netns/x"}};
  EXPECT_EQ(HostNetworkOf(spec).kind, NetworkNamespace::Kind::kJoin);
  EXPECT_EQ(HostNetworkOf(spec).path, "/run/netns/x");
}

std::optional<std::string> Owner(int pid) {
  switch (pid) {
    case 7:
      return "";
    case 8:
      return "neighbour";
    default:
      return std::nullopt;
  }
}

std::optional<NamespaceId> OnHost(const std::string& path) {
  return NamespaceId(1, path == "/proc/self/ns/user" ? 2 : 3);
}

TEST(TranslateNamespaces, PodsOwnAndNew) {
  oci::Spec spec;
  spec.linux_.namespaces = {{"pid", ""},
                            {"network", "/proc/7/ns/net"},
                            {"ipc", "/proc/7/ns/ipc"},
                            {"uts", ""},
                            {"mount", ""}};
  ASSERT_TRUE(TranslateNamespaces(spec, Owner, OnHost));
  EXPECT_THAT(
      spec.linux_.namespaces,
      ElementsAre(Field(&oci::Namespace::type, "pid"), Field(&oci::Namespace::type, "uts"),
                  Field(&oci::Namespace::type, "mount"), Field(&oci::Namespace::type, "cgroup")));
}

TEST(TranslateNamespaces, JoinedPids) {
  oci::Spec spec;
  spec.linux_.namespaces = {{"pid", "/proc/7/ns/pid"}};
  ASSERT_TRUE(TranslateNamespaces(spec, Owner, OnHost));
  EXPECT_EQ(spec.linux_.namespaces[0].path, "pod");
  spec.linux_.namespaces = {{"pid", "/proc/8/ns/pid"}};
  ASSERT_TRUE(TranslateNamespaces(spec, Owner, OnHost));
  EXPECT_EQ(spec.linux_.namespaces[0].path, "container:neighbour");
}

TEST(TranslateNamespaces, RefusesWhatIsNotInThePod) {
  for (const char* path : {"/proc/9/ns/pid", "/run/pidns", "/proc/self/ns/pid", "/proc/8/root"}) {
    oci::Spec spec;
    spec.linux_.namespaces = {{"pid", path}};
    const auto translated = TranslateNamespaces(spec, Owner, OnHost);
    ASSERT_FALSE(translated) << path;
    EXPECT_THAT(translated.error().message(), HasSubstr(path));
  }
  oci::Spec spec;
  spec.linux_.namespaces = {{"mount", "/proc/7/ns/mnt"}};
  EXPECT_FALSE(TranslateNamespaces(spec, Owner, OnHost));
}

TEST(TranslateNamespaces, JoinedUsers) {
  const std::vector<oci::IdMapping> mappings{{0, 100000, 65536}};
  const auto translate = [&](const std::string& path, bool mapped) {
    oci::Spec spec;
    spec.linux_.namespaces = {{"user", path}};
    if (mapped) {
      spec.linux_.uid_mappings = spec.linux_.gid_mappings = mappings;
    }
    const auto translated = TranslateNamespaces(spec, Owner, OnHost);
    EXPECT_TRUE(translated) << path;
    return spec.linux_;
  };
  EXPECT_EQ(translate("", true).namespaces[0].path, "");
  EXPECT_EQ(translate("/run/userns/a", true).namespaces[0].path, "pod");
  EXPECT_EQ(translate("/proc/7/ns/user", true).namespaces[0].path, "pod");
  EXPECT_EQ(translate("/proc/7/ns/user", true).uid_mappings.size(), 1U);
  EXPECT_EQ(translate("/proc/8/ns/user", true).namespaces[0].path, "container:neighbour");
  EXPECT_TRUE(translate("/proc/8/ns/user", true).uid_mappings.empty());
  for (const char* hosts : {"/proc/7/ns/user", "/proc/self/ns/user"}) {
    EXPECT_THAT(translate(hosts, false).namespaces,
                ElementsAre(Field(&oci::Namespace::type, "cgroup")));
  }
  oci::Spec spec;
  spec.linux_.namespaces = {{"user", "/run/userns/a"}};
  EXPECT_THAT(TranslateNamespaces(spec, Owner, OnHost).error().message(),
              HasSubstr("/run/userns/a"));
}

TEST(JoinedProcesses, AreThoseThatPathsName) {
  oci::Spec spec;
  spec.linux_.namespaces = {{"pid", ""},
                            {"ipc", "/proc/12/ns/ipc"},
                            {"network", "/run/netns/x"},
                            {"uts", "/proc/self/ns/uts"}};
  const auto found = JoinedProcesses(spec);
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].type, "ipc");
  EXPECT_EQ(found[0].pid, 12);
}

TEST(TranslateSharedMemory, OnlyOfSharedMemory) {
  oci::Spec spec;
  spec.mounts = {{"/dev/shm", "bind", "/dev/shm", {"rbind"}}, {"/data", "bind", "/dev/shm", {}}};
  const auto share = [](const std::string& source,
                        const MemoryVolume& volume) -> Result<std::string> {
    return volume.size_bytes > 0 && volume.huge_page_bytes == 0 ? "/run" + source : "";
  };
  ASSERT_TRUE(TranslateSharedMemory(spec, share));
  EXPECT_EQ(spec.mounts[0].source, "guest:/run/dev/shm");
  EXPECT_EQ(spec.mounts[1].source, "/dev/shm");

  spec.mounts = {{"/dev/shm", "bind", "/proc", {"rbind"}}};
  ASSERT_TRUE(TranslateSharedMemory(spec, share));
  EXPECT_EQ(spec.mounts[0].source, "/proc");
}

// A hugetlbfs where the test may mount one; it needs no huge pages.
class HugePageMount {
 public:
  explicit HugePageMount(const std::string& options)
      : folder_(*TempDir::Create("/tmp/guest-spec-test.")),
        mounted_(sys::Mount("none", folder_.path(), "hugetlbfs", 0, options)) {}
  ~HugePageMount() {
    if (mounted_) {
      (void)sys::Unmount(folder_.path(), 0);
    }
  }
  bool mounted() const { return mounted_.has_value(); }
  const std::string& path() const { return folder_.path(); }

 private:
  const TempDir folder_;
  const Status mounted_;
};

TEST(TranslateSharedMemory, AHugetlbfsIsTheGuests) {
  const HugePageMount host("pagesize=2M,size=64M,mode=770,uid=5,gid=7");
  if (!host.mounted()) {
    GTEST_SKIP() << "no hugetlbfs can be mounted here";
  }
  ASSERT_TRUE(sys::Chmod(host.path(), 02770));
  MemoryVolume got;
  const auto share = [&](const std::string& source,
                         const MemoryVolume& volume) -> Result<std::string> {
    got = volume;
    return "/run" + source;
  };
  oci::Spec spec;
  spec.mounts = {{"/hugepages", "none", host.path(), {"rbind", "rw"}}};
  ASSERT_TRUE(TranslateSharedMemory(spec, share));
  EXPECT_EQ(spec.mounts[0].source, "guest:/run" + host.path());
  EXPECT_EQ(got.huge_page_bytes, 2U << 20U);
  EXPECT_EQ(got.size_bytes, 64U << 20U);
  EXPECT_EQ(got.reserved_bytes, 64U << 20U);
  EXPECT_EQ(got.mode, 02770U);
  EXPECT_EQ(got.uid, 5U);
  EXPECT_EQ(got.gid, 7U);

  // Limits of the container keep the pages.
  spec.mounts[0].source = host.path();
  spec.linux_.resources.hugepage_limits = {{"1GB", 0}, {"2MB", 32U << 20U}};
  ASSERT_TRUE(TranslateSharedMemory(spec, share));
  EXPECT_EQ(got.reserved_bytes, 0U);

  ASSERT_TRUE(sys::WriteFile(host.path() + "/file", "", 0600));
  spec.mounts[0].source = host.path() + "/file";
  const Status refused = TranslateSharedMemory(spec, share);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message(), HasSubstr("/file: huge pages of the host are not"));
}

TEST(ForgetHostCpus, AndMemoryNodes) {
  oci::Resources resources;
  resources.cpu.cpus = "0-3";
  resources.cpu.mems = "1";
  resources.cpu.shares = 512;
  ForgetHostCpus(resources);
  EXPECT_EQ(resources.cpu.cpus, "");
  EXPECT_EQ(resources.cpu.mems, "");
  EXPECT_EQ(resources.cpu.shares, 512U);
}

TEST(SizeOf, AnnotationsOfThePodComeFirst) {
  oci::Spec spec = WithAnnotations({{"io.kubernetes.cri.sandbox-memory", "67108864"},
                                    {"io.kubernetes.cri.sandbox-cpu-quota", "250000"},
                                    {"io.kubernetes.cri.sandbox-cpu-period", "100000"}});
  spec.linux_.resources.memory.limit = 1;
  const auto size = SizeOf(spec);
  EXPECT_EQ(size->memory_bytes, 67108864U);
  EXPECT_EQ(size->vcpus, 3U);
}

TEST(SizeOf, LimitsOfTheContainer) {
  oci::Spec spec;
  EXPECT_FALSE(SizeOf(spec)->memory_bytes);
  EXPECT_FALSE(SizeOf(spec)->vcpus);
  spec.linux_.resources.memory.limit = -1;
  spec.linux_.resources.cpu.quota = -1;
  EXPECT_FALSE(SizeOf(spec)->memory_bytes);
  EXPECT_FALSE(SizeOf(spec)->vcpus);
  spec.linux_.resources.memory.limit = 1 << 20;
  spec.linux_.resources.cpu.quota = 1;
  EXPECT_EQ(SizeOf(spec)->memory_bytes, 1U << 20U);
  EXPECT_EQ(SizeOf(spec)->vcpus, 1U);
  spec.linux_.resources.cpu.quota = INT64_MAX;
  spec.linux_.resources.cpu.period = 1;
  EXPECT_EQ(SizeOf(spec)->vcpus, 64U);
}

TEST(SizeOf, HugePagesComeBesideTheMemory) {
  oci::Spec spec;
  spec.linux_.resources.memory.limit = 1 << 20;
  auto& limits = spec.linux_.resources.hugepage_limits;
  limits = {{"2MB", 64U << 20U}, {"1GB", 1U << 30U}, {"64KB", 0x7FFFFFFFFFFFF000}};
  EXPECT_EQ(SizeOf(spec)->memory_bytes, 1U << 20U);
  EXPECT_EQ(SizeOf(spec)->huge_page_bytes, (64U << 20U) + (1U << 30U));
  limits = {{"2MB", 0x7FFFFFFFFFFFEFFF}, {"1GB", 0x7FFFFFFFFFFFEFFF}};
  EXPECT_EQ(SizeOf(spec)->huge_page_bytes, 1ULL << 50U);
}

TEST(SizeOf, ABadAnnotationIsNamed) {
  const auto size = SizeOf(WithAnnotations({{"io.kubernetes.cri.sandbox-memory", "lots"}}));
  ASSERT_FALSE(size);
  EXPECT_THAT(size.error().message(), HasSubstr("io.kubernetes.cri.sandbox-memory: \"lots\""));
}

}  // namespace
}  // namespace bulkhead::shim
