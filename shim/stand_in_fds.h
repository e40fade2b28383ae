// Where a stand-in finds what it was started with.
#pragma once

namespace bulkhead::shim {

inline constexpr int kReportFd = 3;     // says "ready", or what is wrong
inline constexpr int kNamespaceFd = 4;  // the network namespace to join
inline constexpr int kChannelFd = 5;
inline constexpr int kTerminalFd = 6;

}  // namespace bulkhead::shim
