#include "shim/network/link_setup.h"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>

#include "base/sys.h"

namespace bulkhead::shim {

Result<UniqueFd> OpenQueue(const std::string& path, const std::string& name, int flags) {
  UniqueFd queue = TRY(sys::Open(path, O_RDWR | O_NONBLOCK));
  ifreq request{};
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  request.ifr_flags = static_cast<short>(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | flags);
  TRY(sys::CheckCall(::ioctl(queue.get(), TUNSETIFF, &request), "TUNSETIFF"));
  return queue;
}

Result<uint32_t> IndexOfLink(Netlink& netlink, const std::string& name) {
  NetlinkRequest request(RTM_GETLINK, 0, ifinfomsg{});
  request.PutText(IFLA_IFNAME, name);
  const NetlinkAnswer answer = TRY(netlink.Ask(request));
  return static_cast<uint32_t>(answer.As<ifinfomsg>().ifi_index);
}

Status SilenceIpv6(Netlink& netlink, uint32_t index) {
  ifinfomsg header{};
  header.ifi_index = static_cast<int>(index);
  NetlinkRequest request(RTM_NEWLINK, 0, header);
  const size_t families = request.Begin(IFLA_AF_SPEC);
  const size_t ipv6 = request.Begin(AF_INET6);
  request.PutValue(IFLA_INET6_ADDR_GEN_MODE, uint8_t{IN6_ADDR_GEN_MODE_NONE});
  request.End(ipv6);
  request.End(families);
  const Status done = netlink.Execute(request);
  // A host without IPv6 has nothing to silence.
  return !done && done.error().errnum() == EAFNOSUPPORT ? Status() : done;
}

Status BringUp(Netlink& netlink, uint32_t index, uint32_t mtu) {
  ifinfomsg header{};
  header.ifi_index = static_cast<int>(index);
  header.ifi_flags = header.ifi_change = IFF_UP;
  NetlinkRequest request(RTM_NEWLINK, 0, header);
  request.PutValue(IFLA_MTU, mtu);
  return netlink.Execute(request);
}

Status RemoveLink(Netlink& netlink, uint32_t index) {
  ifinfomsg header{};
  header.ifi_index = static_cast<int>(index);
  const Status removed = netlink.Execute(NetlinkRequest(RTM_DELLINK, 0, header));
  return !removed && removed.error().errnum() == ENODEV ? Status() : removed;
}

}  // namespace bulkhead::shim
