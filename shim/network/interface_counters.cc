#include "shim/network/interface_counters.h"

#include <linux/if_link.h>

namespace bulkhead::shim {

InterfaceCounters ParseCounters(const NetlinkAttributes& link) {
  // It grew: older kernels tell a part of it.
  rtnl_link_stats64 stats{};
  link.Get(IFLA_STATS64).copy(reinterpret_cast<char*>(&stats), sizeof(stats));
  return InterfaceCounters{link.Text(IFLA_IFNAME),
                           {stats.rx_bytes, stats.rx_packets, stats.rx_errors, stats.rx_dropped},
                           {stats.tx_bytes, stats.tx_packets, stats.tx_errors, stats.tx_dropped}};
}

Result<InterfaceCounters> ReadCounters(Netlink& netlink, uint32_t index) {
  ifinfomsg header{};
  header.ifi_index = static_cast<int>(index);
  const NetlinkAnswer answer = TRY(netlink.Ask(NetlinkRequest(RTM_GETLINK, 0, header)));
  return ParseCounters(answer.Attributes<ifinfomsg>());
}

}  // namespace bulkhead::shim
