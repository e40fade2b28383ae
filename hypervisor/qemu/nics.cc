#include "hypervisor/qemu/nics.h"

#include <fmt/format.h>

#include <span>

#include "base/scope_guard.h"
#include "hypervisor/qemu/command_line.h"

namespace bulkhead::hypervisor::qemu {
namespace {

// Its netdev is named as the device is.
class NicPlug final : public Pluggable {
 public:
  NicPlug() = default;  // to detach
  explicit NicPlug(NicConfig config) : config_(std::move(config)) {}

  // The descriptors go by names of their own, which end as soon as the netdev takes them.
  Status AddBackend(QmpClient& qmp, uint64_t number) const override {
    std::vector<std::string> names;
    ScopeGuard take_back([&] {
      for (const std::string& name : names) {
        (void)qmp.Execute("closefd", fmt::format(R"({{"fdname":"{}"}})", name), kQmpTime);
      }
    });
    for (const int fd : NicFds(config_)) {
      names.push_back(fmt::format("{}-{}", DeviceName(number), names.size()));
      TRY(qmp.Execute("getfd", fmt::format(R"({{"fdname":"{}"}})", names.back()), kQmpTime, fd));
    }
    TRY(qmp.Execute("netdev_add", NicNetdev(config_, number, names), kQmpTime));
    take_back.Dismiss();
    return {};
  }

  Status RemoveBackend(QmpClient& qmp, uint64_t number) const override {
    TRY(qmp.Execute("netdev_del", fmt::format(R"({{"id":"{}"}})", DeviceName(number)), kQmpTime));
    return {};
  }

  std::string DeviceArguments(uint64_t number, const std::string& place) const override {
    return NicDevice(config_, number, place);
  }

 private:
  NicConfig config_;
};

std::string Name(const std::string& id) { return "NIC " + id; }

using Names = std::span<const std::string>;

// What follows the netdev's type and id.
std::string Netdev(const TapBackend& tap, Names fds) {
  const Names queues = fds.first(tap.queues.size());
  const Names vhost = fds.subspan(tap.queues.size());
  const std::string_view many = queues.size() > 1 ? "s" : "";
  std::string text = fmt::format(R"("fd{}":"{}")", many, fmt::join(queues, ":"));
  return text + (vhost.empty() ? R"(,"vhost":false)"
                               : fmt::format(R"(,"vhost":true,"vhostfd{}":"{}")", many,
                                             fmt::join(vhost, ":")));
}

std::string Netdev(const StreamBackend& /*stream*/, Names fds) {
  return fmt::format(R"("fd":"{}")", fds[0]);
}

std::string Netdev(const UserBackend& user, Names /*fds*/) {
  std::vector<std::string> forwards;
  for (const UserBackend::Forward& forward : user.forwards) {
    forwards.push_back(fmt::format(R"({{"str":"{}:{}:{}-:{}"}})", forward.udp ? "udp" : "tcp",
                                   forward.host_address, forward.host_port, forward.guest_port));
  }
  const std::string ipv6 =
      user.prefix6.empty()
          ? R"("ipv6":false)"
          : fmt::format(R"("ipv6":true,"ipv6-prefix":"{}","ipv6-host":"{}","ipv6-dns":"{}")",
                        user.prefix6, user.gateway6, user.dns6);
  return fmt::format(
      R"("ipv4":true,"net":"{}","host":"{}","dns":"{}","dhcpstart":"{}",{},"hostfwd":[{}])",
      user.network, user.gateway, user.dns, user.guest, ipv6, fmt::join(forwards, ","));
}

const char* TypeOf(const TapBackend& /*tap*/) { return "tap"; }
// Not "stream": QEMU 7.2 loses a descriptor that comes over the monitor, and says nothing.
const char* TypeOf(const StreamBackend& /*stream*/) { return "socket"; }
const char* TypeOf(const UserBackend& /*user*/) { return "user"; }

// A queue each way for all pairs, one for control, and the device itself.
std::string QueuesOf(const NicConfig& config) {
  const auto* tap = std::get_if<TapBackend>(&config.backend);
  return tap == nullptr || tap->queues.size() < 2
             ? ""
             : fmt::format(R"(,"mq":true,"vectors":{})", 2 * tap->queues.size() + 2);
}

}  // namespace

std::vector<int> NicFds(const NicConfig& config) {
  std::vector<int> fds;
  if (const auto* tap = std::get_if<TapBackend>(&config.backend)) {
    for (const auto* list : {&tap->queues, &tap->vhost}) {
      for (const UniqueFd& fd : *list) {
        fds.push_back(fd.get());
      }
    }
  } else if (const auto* stream = std::get_if<StreamBackend>(&config.backend)) {
    fds.push_back(stream->socket.get());
  }
  return fds;
}

std::string NicNetdev(const NicConfig& config, uint64_t number,
                      const std::vector<std::string>& fds) {
  return std::visit(
      [&](const auto& backend) {
        return fmt::format(R"({{"type":"{}","id":"{}",{}}})", TypeOf(backend), DeviceName(number),
                           Netdev(backend, fds));
      },
      config.backend);
}

// No ROM: nobody boots from it, and it would outgrow the bridge's memory.
std::string NicDevice(const NicConfig& config, uint64_t number, const std::string& place) {
  return fmt::format(
      R"({{"driver":"virtio-net-pci","id":"{0}","netdev":"{0}","mac":"{1}","host_mtu":{2},{3},)"
      R"("disable-legacy":"on","romfile":""{4}}})",
      DeviceName(number), FormatMac(config.mac), config.mtu, place, QueuesOf(config));
}

void AdoptNic(PlugBoard& board, const std::string& id) { board.Adopt(Name(id)); }

Status AttachNic(PlugBoard& board, QmpClient& qmp, NicConfig config) {
  TRY(CheckNic(config));
  const std::string name = Name(config.id);
  return board.Attach(qmp, name, NicPlug(std::move(config)));
}

Status DetachNic(PlugBoard& board, QmpClient& qmp, const std::string& id) {
  return board.Detach(qmp, Name(id), NicPlug());
}

}  // namespace bulkhead::hypervisor::qemu
