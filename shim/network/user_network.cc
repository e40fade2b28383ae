#include "shim/network/user_network.h"

#include <arpa/inet.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <map>
#include <sstream>
#include <utility>

#include "base/sys.h"
#include "shim/network/user_link.h"
#include "shim/network/wiring.h"

namespace bulkhead::shim {
namespace {

namespace pb = ::bulkhead::agent::v1;
using std::chrono::milliseconds;

constexpr milliseconds kPatience(10000);
// passt hands whole segments over: the longer they are, the less there is to do.
constexpr uint32_t kPasstMtu = 65520;
constexpr uint32_t kSlirpMtu = 1500;
// Of QEMU, if it carries the frames: each connection of the guest is one, and libslirp has 256 KiB
// of buffers for each. passt's tables have an end of their own.
constexpr rlim_t kMaxFiles = 4096;

std::string Binary(int family, const char* text) {
  std::array<char, sizeof(in6_addr)> address{};
  ::inet_pton(family, text, address.data());
  return {address.data(), family == AF_INET ? sizeof(in_addr) : sizeof(in6_addr)};
}

void AddAddress(pb::Network::Interface& interface, int family, const char* address, uint32_t prefix,
                uint32_t scope = RT_SCOPE_UNIVERSE) {
  pb::Network::Address& added = *interface.add_addresses();
  added.set_ip(Binary(family, address));
  added.set_prefix(prefix);
  added.set_scope(scope);
  added.set_flags(family == AF_INET6 ? IFA_F_NODAD : 0);  // nobody else is on the link
}

void AddDefaultRoute(pb::Network& network, int family, const char* gateway) {
  pb::Network::Route& route = *network.add_routes();
  route.set_family(static_cast<uint32_t>(family));
  route.set_gateway(Binary(family, gateway));
  route.set_device(kUserInterface);
  route.set_table(RT_TABLE_MAIN);
  route.set_type(RTN_UNICAST);
}

// libslirp takes it for what it is: no more connections.
Status BoundFiles(pid_t pid) {
  rlimit limit{};
  TRY(sys::CheckCall(::prlimit(pid, RLIMIT_NOFILE, nullptr, &limit), "prlimit"));
  limit.rlim_max = std::min(limit.rlim_max, kMaxFiles);
  limit.rlim_cur = std::min(limit.rlim_cur, limit.rlim_max);
  return sys::CheckCall(::prlimit(pid, RLIMIT_NOFILE, &limit, nullptr), "prlimit");
}

// Whether a line of that file of /proc has these words at their places, by number.
bool AnyLine(const char* file, const std::map<size_t, std::string_view>& wanted,
             std::string_view unwanted = "") {
  std::istringstream lines(sys::ReadFile(file).value_or(std::string()));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream stream(line);
    const std::vector<std::string> words{std::istream_iterator<std::string>(stream), {}};
    const bool fits = std::all_of(wanted.begin(), wanted.end(), [&](const auto& entry) {
      return entry.first < words.size() && words[entry.first] == entry.second;
    });
    if (fits && std::find(words.begin(), words.end(), unwanted) == words.end()) {
      return true;
    }
  }
  return false;
}

// A default route.
bool HostHasIp4() { return AnyLine("/proc/net/route", {{1, "00000000"}, {7, "00000000"}}); }
// By another interface than lo, where the kernel keeps one that leads nowhere.
bool HostHasIp6() {
  return AnyLine("/proc/net/ipv6_route", {{0, "00000000000000000000000000000000"}, {1, "00"}},
                 "lo");
}

// Older ones do not start on a host that leads nowhere.
bool PrefersPasst(const UserNetworkOptions& options) {
  return options.may_use_passt && !options.passt.empty() &&
         (!options.may_use_slirp || HostHasIp4() || HostHasIp6());
}

bool PublishesUdp(const UserNetworkOptions& options) {
  return std::any_of(options.ports.begin(), options.ports.end(),
                     [](const PublishedPorts& ports) { return ports.udp; });
}

}  // namespace

Result<LoopbackFilter> UserNetwork::MakeFilter(const UserNetworkOptions& options) {
  return LoopbackFilter::Create({ReadHostResolver().servers, PublishesUdp(options)});
}

UserNetwork::UserNetwork(UserNetworkOptions options, std::optional<LoopbackFilter> filter,
                         SpawnThread& spawner, Logger& logger)
    : options_(std::move(options)),
      spawner_(spawner),
      logger_(logger),
      resolver_(ReadHostResolver()),
      prefers_passt_(PrefersPasst(options_)),
      filter_(std::move(filter)) {
  if (prefers_passt_) {
    passt_ = StartPasst();
  }
}

void UserNetwork::Stop() {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (lock) {
    StopWatching();
    passt_.reset();
    filter_.reset();
  }
}

Result<Passt> UserNetwork::StartPasst() {
  PasstOptions passt{options_.passt, options_.ports, resolver_, false, -1};
  if (filter_) {
    passt.maps_gateway =
        PublishesUdp(options_);  // the filter lets such answers through, and nothing else
    passt.cgroup = filter_->group();
  }
  return Passt::Start(passt, spawner_);
}

Result<std::vector<hypervisor::NicConfig>> UserNetwork::BootNics() {
  const std::lock_guard lock(mutex_);
  StopWatching();
  Result<hypervisor::NicConfig> nic =
      MakeError(ErrorCode::kNotFound, "passt is not there, and QEMU's own network not wanted");
  if (prefers_passt_) {
    nic = PasstNic();
    if (!nic && options_.may_use_slirp) {
      logger_.Warning(nic.error().message() + ": QEMU's own network, which is slower, instead");
    }
  }
  if (!nic && options_.may_use_slirp) {
    nic = SlirpNic();
  }
  std::vector<hypervisor::NicConfig> nics;
  nics.push_back(TRY_AS(std::move(nic), "--network user"));
  return nics;
}

Result<hypervisor::NicConfig> UserNetwork::PasstNic() {
  Passt passt = TRY(passt_ ? *std::exchange(passt_, std::nullopt) : StartPasst());
  families_ = TRY(passt.Greet(kPatience));
  hypervisor::NicConfig nic{"user", kUserMac, kPasstMtu,
                            hypervisor::StreamBackend{passt.TakeSocket()}};
  sys::Pipe stop = TRY(sys::MakePipe());
  stop_watching_ = std::move(stop.write);
  watch_ = std::thread([this, passt = std::move(passt), fd = std::move(stop.read)]() mutable {
    Watch(std::move(passt), std::move(fd));
  });
  mtu_ = kPasstMtu;
  in_qemu_ = false;
  return nic;
}

Result<hypervisor::NicConfig> UserNetwork::SlirpNic() {
  hypervisor::UserBackend backend;
  backend.network = fmt::format("{}/{}", kUserNetwork4, kUserPrefix4);
  backend.gateway = kUserGateway4;
  backend.dns = kUserDns4;
  backend.guest = kUserAddress4;
  families_ = {true, HostHasIp6()};
  if (families_.ip6) {
    backend.prefix6 = kUserNetwork6;
    backend.gateway6 = kUserGateway6;
    backend.dns6 = kUserDns6;
  }
  for (const PublishedPorts& ports : options_.ports) {
    if (ports.ipv6()) {
      return MakeError(ErrorCode::kInvalidArgument,
                       "--publish {}: QEMU's own network publishes at IPv4 addresses alone; passt "
                       "can do it",
                       ToText(ports));
    }
    for (uint16_t i = 0; i < ports.count; ++i) {
      backend.forwards.push_back({ports.udp, ports.address, static_cast<uint16_t>(ports.host + i),
                                  static_cast<uint16_t>(ports.guest + i)});
    }
  }
  if (filter_) {
    backend.cgroup = TRY(sys::Dup(filter_->group()));
  }
  mtu_ = kSlirpMtu;
  in_qemu_ = true;
  return hypervisor::NicConfig{"user", kUserMac, kSlirpMtu, std::move(backend)};
}

void UserNetwork::Confine(pid_t vm) {
  if (!in_qemu_) {
    return;
  }
  if (const Status bounded = BoundFiles(vm); !bounded) {
    logger_.Warning("the container's connections are not bounded: " + bounded.error().message());
  }
}

agent::v1::Network UserNetwork::Describe() const {
  pb::Network network;
  pb::Network::Interface& interface = *network.add_interfaces();
  interface.set_mac(kUserMac.data(), kUserMac.size());
  interface.set_name(kUserInterface);
  interface.set_mtu(mtu_);
  interface.set_up(true);
  if (families_.ip4) {
    AddAddress(interface, AF_INET, kUserAddress4, kUserPrefix4);
    AddDefaultRoute(network, AF_INET, kUserGateway4);
  }
  if (families_.ip6) {
    AddAddress(interface, AF_INET6, kUserAddress6, kUserPrefix6);
    AddAddress(interface, AF_INET6, kUserLinkLocal6, kUserPrefix6, RT_SCOPE_LINK);
    AddDefaultRoute(network, AF_INET6, kUserGateway6);
  }
  return network;
}

void UserNetwork::Watch(Passt passt, UniqueFd stop) {
  while (true) {
    std::array<pollfd, 3> polled{pollfd{passt.child().pidfd(), POLLIN, 0},
                                 pollfd{passt.words().fd(), POLLIN, 0},
                                 pollfd{stop.get(), POLLIN, 0}};
    if (::poll(polled.data(), polled.size(), -1) <= 0) {
      continue;
    }
    passt.words().ReadMore();
    if (polled[2].revents != 0) {
      return;  // it goes with its owner
    }
    if (polled[0].revents == 0) {
      continue;
    }
    const auto exit = passt.child().Wait(milliseconds(0));
    // It ends by itself when the VM has gone, and is content.
    if (!exit || !*exit || (*exit)->ShellCode() != 0) {
      const int signal = exit && *exit ? (*exit)->signal : 0;
      const std::string words = passt.words().Text();
      logger_.Warning(
          fmt::format("the container has no network any more: passt {}{}{}",
                      signal != 0 ? fmt::format("was killed by signal {}", signal) : "failed",
                      words.empty() ? "" : ": ", words));
    }
    return;
  }
}

void UserNetwork::StopWatching() {
  stop_watching_.Reset();
  if (watch_.joinable()) {
    watch_.join();
  }
}

inspection::v1::Network UserNetwork::Inspect() const {
  inspection::v1::Network network = DescribeWiring(Describe(), {});
  network.set_kind("user");
  network.mutable_interfaces(0)->set_kind(in_qemu_ ? "slirp" : "passt");
  return network;
}

}  // namespace bulkhead::shim
