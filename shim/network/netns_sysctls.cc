#include "shim/network/netns_sysctls.h"

#include <sched.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "base/sys.h"
#include "shim/network/enter_netns.h"

namespace bulkhead::shim {
namespace {

constexpr char kRoot[] = "/proc/sys/net/";
constexpr size_t kMaxSysctls = 16384;  // a pod with 32 interfaces has 5000
constexpr size_t kMaxValue = 4096;

// Of the calling thread's namespace. What cannot be read now (it went, or has no value) is left
// out.
Status ReadFolder(const std::string& name, Sysctls& out) {
  for (const std::string& entry : TRY(sys::ListDirectory(kRoot + name))) {
    const std::string path = fmt::format("{}/{}", name, entry);
    const auto info = sys::Stat(kRoot + path);
    if (info && S_ISDIR(info->st_mode)) {
      (void)ReadFolder(path, out);
    } else if (info && (info->st_mode & S_IWUSR) != 0 && (info->st_mode & S_IRUSR) != 0) {
      if (auto value = sys::ReadFile(kRoot + path, kMaxValue)) {
        value->erase(value->find_last_not_of('\n') + 1);
        out.emplace(path, std::move(*value));
      }
    }
    if (out.size() > kMaxSysctls) {
      return MakeError(ErrorCode::kResourceExhausted, "{}: more than {} parameters", kRoot,
                       kMaxSysctls);
    }
  }
  return {};
}

Result<Sysctls> ReadHere() {
  Sysctls out;
  for (const char* folder : {"core", "ipv4", "ipv6", "unix"}) {
    if (sys::IsDirectory(std::string(kRoot) + folder)) {
      TRY(ReadFolder(folder, out));
    }
  }
  return out;
}

bool IsToldOtherwise(std::string_view leaf) {
  constexpr std::array<std::string_view, 7> kOthers{
      "mtu",           "addr_gen_mode",       "accept_ra",   "disable_ipv6",
      "stable_secret", "base_reachable_time", "retrans_time"};  // the last two have one in
                                                                // milliseconds beside them
  return std::find(kOthers.begin(), kOthers.end(), leaf) != kOthers.end();
}

// "ipv4/conf/eth0/rp_filter" -> "ipv4/conf/default/rp_filter"; others as they are.
std::string ForNewOnes(const std::string& path) {
  const size_t leaf = path.rfind('/');
  const size_t interface =
      leaf == 0 || leaf == std::string::npos ? std::string::npos : path.rfind('/', leaf - 1);
  return interface == std::string::npos
             ? path
             : path.substr(0, interface) + "/default" + path.substr(leaf);
}

}  // namespace

Result<Sysctls> ReadSysctls(int netns) {
  return InNetns(netns, [] { return ReadHere(); });
}

Result<Sysctls> ReadFreshSysctls() {
  Result<Sysctls> result;
  TRY(RunInThread([&] {
    const Status alone = sys::Unshare(CLONE_NEWNET);
    result = alone ? ReadHere() : tl::unexpected(alone.error());
  }));
  return result;
}

Sysctls ChangedSysctls(const Sysctls& netns, const Sysctls& fresh) {
  Sysctls changed;
  for (const auto& [path, value] : netns) {
    auto usual = fresh.find(path);
    usual = usual == fresh.end() ? fresh.find(ForNewOnes(path)) : usual;
    if (usual != fresh.end() && usual->second != value &&
        !IsToldOtherwise(std::string_view(path).substr(path.rfind('/') + 1))) {
      changed.emplace(path, value);
    }
  }
  return changed;
}

}  // namespace bulkhead::shim
