// Facts of the host that a VM's start needs.
#pragma once

#include <cstdint>
#include <string_view>

namespace bulkhead::hypervisor {

// MemTotal of a /proc/meminfo; 0 when it does not say.
uint64_t MemTotalBytes(std::string_view meminfo);
uint64_t HostMemoryBytes();

// The rate of the time stamp counter, measured once (1 ms); 0 when it is not constant.
uint32_t HostTscKhz();

}  // namespace bulkhead::hypervisor
