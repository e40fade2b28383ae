#include "hypervisor/qemu/nics.h"

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
    const std::string name = DeviceName(number);
    const std::string vhost_name = name + "-vhost";
    ScopeGuard take_back([&] {
      TakeFdBack(qmp, name);
      TakeFdBack(qmp, vhost_name);
    });
    TRY(GiveFd(qmp, name, config_.tap));
    std::string vhost = R"("vhost":false)";
    if (config_.vhost) {
      TRY(GiveFd(qmp, vhost_name, config_.vhost));
      vhost = fmt::format(R"("vhost":true,"vhostfd":"{}")", vhost_name);
    }
    TRY(qmp.Execute("netdev_add",
                    fmt::format(R"({{"type":"tap","id":"{0}","fd":"{0}",{1}}})", name, vhost),
                    kQmpTime));
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
  static Status GiveFd(QmpClient& qmp, const std::string& name, const UniqueFd& fd) {
    TRY(qmp.Execute("getfd", fmt::format(R"({{"fdname":"{}"}})", name), kQmpTime, fd.get()));
    return {};
  }

  static void TakeFdBack(QmpClient& qmp, const std::string& name) {
    (void)qmp.Execute("closefd", fmt::format(R"({{"fdname":"{}"}})", name), kQmpTime);
  }

  NicConfig config_;
};

std::string Name(const std::string& id) { return "NIC " + id; }

}  // namespace

// No ROM: nobody boots from it, and it would outgrow the bridge's memory.
std::string NicDevice(const NicConfig& config, uint64_t number, const std::string& place) {
  return fmt::format(
      R"({{"driver":"virtio-net-pci","id":"{0}","netdev":"{0}","mac":"{1}","host_mtu":{2},{3},)"
      R"("disable-legacy":"on","romfile":""}})",
      DeviceName(number), FormatMac(config.mac), config.mtu, place);
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
