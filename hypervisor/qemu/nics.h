// The network interfaces plugged into a running QEMU.
#pragma once

#include <string>
#include <vector>

#include "hypervisor/nic.h"
#include "hypervisor/qemu/plug_board.h"

namespace bulkhead::hypervisor::qemu {

// The descriptors of its backend, in the order in which NicNetdev() wants their names.
std::vector<int> NicFds(const NicConfig& config);
// netdev_add's, and -netdev's, as a JSON object. `fds`: what QEMU knows them by, a number or a
// name.
std::string NicNetdev(const NicConfig& config, uint64_t number,
                      const std::vector<std::string>& fds);
// device_add's, and -device's, as a JSON object: of the NIC whose netdev has the same number.
std::string NicDevice(const NicConfig& config, uint64_t number, const std::string& place);

// For a NIC that QEMU was started with, by its number in the list.
void AdoptNic(PlugBoard& board, const std::string& id);
Status AttachNic(PlugBoard& board, QmpClient& qmp, NicConfig config);
Status DetachNic(PlugBoard& board, QmpClient& qmp, const std::string& id);

}  // namespace bulkhead::hypervisor::qemu
