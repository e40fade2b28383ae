// The network interfaces plugged into a running QEMU.
#pragma once

#include <string>

#include "hypervisor/nic.h"
#include "hypervisor/qemu/plug_board.h"

namespace bulkhead::hypervisor::qemu {

// device_add's, and -device's, as a JSON object: of the NIC whose netdev has the same number.
std::string NicDevice(const NicConfig& config, uint64_t number, const std::string& place);

// For a NIC that QEMU was started with, by its number in the list.
void AdoptNic(PlugBoard& board, const std::string& id);
Status AttachNic(PlugBoard& board, QmpClient& qmp, NicConfig config);
Status DetachNic(PlugBoard& board, QmpClient& qmp, const std::string& id);

}  // namespace bulkhead::hypervisor::qemu
