#include "shim/network/passt.h"

#include <arpa/inet.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <span>

#include "base/sys.h"
#include "shim/network/link_greeting.h"
#include "shim/network/user_link.h"

namespace bulkhead::shim {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr int kSocket = 3;
constexpr size_t kMaxFrame = 65536 + 64;

// "192.0.2.1/80-81:8080-8081"
std::string Forward(const PublishedPorts& ports) {
  const auto range = [&](uint16_t first) {
    return ports.count == 1 ? std::to_string(first)
                            : fmt::format("{}-{}", first, first + ports.count - 1);
  };
  return fmt::format("{}{}{}:{}", ports.address, ports.address.empty() ? "" : "/",
                     range(ports.host), range(ports.guest));
}

bool HasFamily(const std::vector<std::string>& addresses, bool ip6) {
  return std::any_of(addresses.begin(), addresses.end(), [&](const std::string& address) {
    return (address.find(':') != std::string::npos) == ip6;
  });
}

in_addr Ip4(const char* text) {
  in_addr address{};
  ::inet_pton(AF_INET, text, &address);
  return address;
}

in6_addr Ip6(const char* text) {
  in6_addr address{};
  ::inet_pton(AF_INET6, text, &address);
  return address;
}

}  // namespace

std::vector<std::string> PasstArguments(const PasstOptions& options, int socket) {
  std::vector<std::string> argv{options.program, "--foreground", "--quiet"};
  const auto add = [&](const char* name, std::string value) {
    argv.emplace_back(name);
    argv.push_back(std::move(value));
  };
  add("--fd", std::to_string(socket));
  // The guest's addresses are set by the agent.
  for (const char* flag : {"--no-dhcp", "--no-dhcpv6", "--no-ra"}) {
    argv.emplace_back(flag);
  }
  if (!options.maps_gateway) {
    argv.emplace_back("--no-map-gw");
  }
  add("--mac-addr", hypervisor::FormatMac(kUserGatewayMac));
  add("--address", kUserAddress4);
  add("--netmask", std::to_string(kUserPrefix4));
  add("--gateway", kUserGateway4);
  add("--address", kUserAddress6);
  add("--gateway", kUserGateway6);
  for (const bool ip6 : {false, true}) {
    // Whom it asks it reads by itself: Debian 12's has no forwarding to servers of --dns, and gives
    // answers of that server to nobody who asked it directly.
    if (DirectServers(options.resolver).empty() && HasFamily(options.resolver.servers, ip6)) {
      add("--dns-forward", ip6 ? kUserDns6 : kUserDns4);
    }
  }
  for (const bool udp : {false, true}) {
    bool any = false;
    for (const PublishedPorts& ports : options.ports) {
      if (ports.udp == udp) {
        add(udp ? "--udp-ports" : "--tcp-ports", Forward(ports));
        any = true;
      }
    }
    if (!any) {
      add(udp ? "--udp-ports" : "--tcp-ports", "none");
    }
  }
  return argv;
}

Result<Passt> Passt::Start(const PasstOptions& options, SpawnThread& spawner) {
  sys::SocketPair pair = TRY(sys::MakeSocketPair(SOCK_STREAM));
  sys::Pipe errors = TRY(sys::MakePipe());
  SpawnOptions spawn;
  spawn.argv = PasstArguments(options, kSocket);
  spawn.fds = {{pair.second.get(), kSocket}, {errors.write.get(), 1}, {errors.write.get(), 2}};
  spawn.cgroup = options.cgroup;
  Child child = TRY(spawner.Spawn(spawn));
  return Passt(std::move(child), std::move(pair.first), std::move(errors.read));
}

Result<Passt::Families> Passt::Greet(milliseconds patience) {
  auto families = Ask(steady_clock::now() + patience);
  if (families) {
    return families;
  }
  // It may be on its way out: then it has said why.
  (void)child_.Wait(milliseconds(500));
  words_.ReadMore();
  const std::string words = words_.Text();
  return MakeError(ErrorCode::kUnavailable, "passt: {}",
                   words.empty() ? families.error().message() : words);
}

// Whoever answers the first question twice has had the time for the other.
Result<Passt::Families> Passt::Ask(steady_clock::time_point deadline) {
  Families families;
  for (int round = 0; round < 2; ++round) {
    TRY(Send(NeighbourQuestion(kUserMac, Ip6(kUserAddress6), Ip6(kUserGateway6))));
    TRY(Send(ArpQuestion(kUserMac, Ip4(kUserAddress4), Ip4(kUserGateway4))));
    for (bool again = false; !again;) {
      const auto answer = ReadAnswer(TRY(Receive(deadline)));
      bool* known = !answer ? nullptr : *answer == LinkAnswer::kArp ? &families.ip4 : &families.ip6;
      if (known != nullptr) {
        again = *known || round == 0;
        *known = true;
      }
    }
  }
  if (families.ip6) {  // clients at the host's ::1 are led there; the answer is the guest's
    TRY(Send(NeighbourQuestion(kUserMac, Ip6(kUserLinkLocal6), Ip6(kUserGateway6))));
  }
  return families;
}

Status Passt::Send(const std::string& frame) {
  const uint32_t length = htonl(static_cast<uint32_t>(frame.size()));
  std::string bytes(reinterpret_cast<const char*>(&length), sizeof(length));
  // Not write(2): it may be gone, and that must not be a SIGPIPE.
  return sys::SendWithFds(socket_.get(), bytes + frame, {});
}

Result<std::string> Passt::Receive(steady_clock::time_point deadline) {
  const auto read = [&](std::span<std::byte> bytes) -> Status {
    while (!bytes.empty()) {
      const auto left = std::chrono::ceil<milliseconds>(deadline - steady_clock::now());
      if (!TRY(sys::PollOne(socket_.get(), POLLIN, std::max(left, milliseconds(0))))) {
        return MakeError(ErrorCode::kDeadlineExceeded, "it does not answer");
      }
      const size_t size = TRY(sys::Read(socket_.get(), bytes));
      if (size == 0) {
        return MakeError(ErrorCode::kUnavailable, "it ended at once");
      }
      bytes = bytes.subspan(size);
    }
    return {};
  };
  uint32_t length = 0;
  TRY(read(std::as_writable_bytes(std::span(&length, 1))));
  length = ntohl(length);
  if (length > kMaxFrame) {
    return MakeError(ErrorCode::kUnavailable, "a frame of {} bytes", length);
  }
  std::string frame(length, '\0');
  TRY(read(std::as_writable_bytes(std::span(frame))));
  return frame;
}

}  // namespace bulkhead::shim
