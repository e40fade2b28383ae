// The network interfaces plugged into a running QEMU.
#pragma once

#include <string>

#include "hypervisor/nic.h"
#include "hypervisor/qemu/plug_board.h"

namespace bulkhead::hypervisor::qemu {

Status AttachNic(PlugBoard& board, QmpClient& qmp, NicConfig config);
Status DetachNic(PlugBoard& board, QmpClient& qmp, const std::string& id);

}  // namespace bulkhead::hypervisor::qemu
