#include "hypervisor/qemu/drives.h"

#include "hypervisor/qemu/command_line.h"

namespace bulkhead::hypervisor::qemu {
namespace {

// The file's own node without a format above it: the content is what the guest sees, and is never
// probed. Named by descriptor, never by path.
// A block device is read past the host's cache, because the guest has its own (and a loop device
// that of its file); a file is read through it, because pods share images. Threads, not native
// AIO: that may block the main loop, and with it the guest, when a thin or loop device allocates.
// The locks are QEMU's default: two VMs that write to one file are refused.
std::string NodeArguments(uint64_t number, DriveKind kind, const DriveConfig& config) {
  const bool block = kind == DriveKind::kBlockDevice;
  return fmt::format(
      R"({{"driver":"{}","node-name":"{}","filename":"/dev/fdset/{}","read-only":{},)"
      R"("cache":{{"direct":{},"no-flush":{}}},"aio":"threads","discard":"unmap"}})",
      block ? "host_device" : "file", DeviceName(number), number, config.read_only, block,
      config.ephemeral);
}

// Its node is named as the device is.
class DrivePlug final : public Pluggable {
 public:
  DrivePlug() = default;  // to detach
  DrivePlug(DriveConfig config, DriveKind kind) : config_(std::move(config)), kind_(kind) {}

  // Opens the file in QEMU. The set is given up at once: the node has a copy of the descriptor, and
  // QEMU drops both with it.
  Status AddBackend(QmpClient& qmp, uint64_t number) const override {
    const std::string set = fmt::format(R"({{"fdset-id":{}}})", number);
    TRY(qmp.Execute("add-fd", set, kQmpTime, config_.file.get()));
    const auto added = qmp.Execute("blockdev-add", NodeArguments(number, kind_, config_), kQmpTime);
    (void)qmp.Execute("remove-fd", set, kQmpTime);  // an error costs a descriptor until the VM ends
    TRY(added);
    return {};
  }

  Status RemoveBackend(QmpClient& qmp, uint64_t number) const override {
    TRY(qmp.Execute("blockdev-del", fmt::format(R"({{"node-name":"{}"}})", DeviceName(number)),
                    kQmpTime));
    return {};
  }

  // One queue: QEMU serves all from one thread, and 64 drives must not eat up the guest's interrupt
  // vectors. Errors go to the guest: QEMU would stop the VM when the host's disk is full.
  std::string DeviceArguments(uint64_t number, const std::string& place) const override {
    return fmt::format(
        R"({{"driver":"virtio-blk-pci","id":"{0}","drive":"{0}","serial":"{1}",{2},)"
        R"("num-queues":1,"disable-legacy":"on","werror":"report","rerror":"report"}})",
        DeviceName(number), config_.serial, place);
  }

 private:
  DriveConfig config_;
  DriveKind kind_ = DriveKind::kRegularFile;
};

std::string Name(const std::string& serial) { return "drive " + serial; }

}  // namespace

Status AttachDrive(PlugBoard& board, QmpClient& qmp, DriveConfig config) {
  const DriveKind kind = TRY(CheckDrive(config));
  const std::string name = Name(config.serial);
  return board.Attach(qmp, name, DrivePlug(std::move(config), kind));
}

Status DetachDrive(PlugBoard& board, QmpClient& qmp, const std::string& serial) {
  return board.Detach(qmp, Name(serial), DrivePlug());
}

}  // namespace bulkhead::hypervisor::qemu
