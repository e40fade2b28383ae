// The drives plugged into a running QEMU.
#pragma once

#include <string>

#include "hypervisor/drive.h"
#include "hypervisor/qemu/plug_board.h"

namespace bulkhead::hypervisor::qemu {

Status AttachDrive(PlugBoard& board, QmpClient& qmp, DriveConfig config);
Status DetachDrive(PlugBoard& board, QmpClient& qmp, const std::string& serial);

}  // namespace bulkhead::hypervisor::qemu
