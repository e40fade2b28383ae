// Process 1 of a guest in tests: tells on the console of each network interface that comes and
// goes, and sends every frame back to its sender.
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

namespace {

std::string Line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

void Tell(int packets, const std::string& name) {
  if (name == "lo") {
    return;
  }
  const std::string sys = "/sys/class/net/" + name + "/";
  ifreq request{};
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  request.ifr_flags = IFF_UP;
  const bool up = ::ioctl(packets, SIOCSIFFLAGS, &request) == 0;
  std::printf("<nic %s mtu=%s%s>\n", Line(sys + "address").c_str(), Line(sys + "mtu").c_str(),
              up ? "" : " down");
  size_t queues = 0;
  for (const auto& entry : std::filesystem::directory_iterator(sys + "queues")) {
    queues += entry.path().filename().string().starts_with("tx-") ? 1 : 0;
  }
  std::printf("<%s queues=%zu>\n", name.c_str(), queues);
}

void Echo(int packets) {
  std::array<char, 65536> frame{};
  sockaddr_ll from{};
  socklen_t size = sizeof(from);
  const ssize_t length =
      ::recvfrom(packets, frame.data(), frame.size(), 0, reinterpret_cast<sockaddr*>(&from), &size);
  if (length < ETH_HLEN || from.sll_pkttype == PACKET_OUTGOING) {
    return;
  }
  std::swap_ranges(frame.begin(), frame.begin() + ETH_ALEN, frame.begin() + ETH_ALEN);
  (void)::sendto(packets, frame.data(), static_cast<size_t>(length), 0,
                 reinterpret_cast<const sockaddr*>(&from), sizeof(from));
}

void Hear(int packets, int events) {
  std::array<char, 8192> event{};
  const ssize_t size = ::recv(events, event.data(), event.size() - 1, 0);
  if (size <= 0) {
    return;
  }
  event[static_cast<size_t>(size)] = '\0';
  const std::string what = event.data();  // "add@/devices/.../net/eth0"
  const std::string name = what.substr(what.rfind('/') + 1);
  if (what.find("/net/" + name) == std::string::npos) {
    return;
  }
  if (what.starts_with("add@")) {
    Tell(packets, name);
  } else if (what.starts_with("remove@")) {
    std::printf("<gone %s>\n", name.c_str());
  }
}

}  // namespace

int main() {
  ::mount("sys", "/sys", "sysfs", 0, nullptr);
  const int events = ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = 1;
  if (::bind(events, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    std::perror("bind");
    return 1;
  }
  // Experimental frames alone: the guest's own are not for this program.
  const int packets = ::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_802_EX1));
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  std::printf("<ready>\n");
  for (const auto& entry : std::filesystem::directory_iterator("/sys/class/net")) {
    Tell(packets, entry.path().filename());
  }
  std::array<pollfd, 2> polled{{{events, POLLIN, 0}, {packets, POLLIN, 0}}};
  for (;;) {
    if (::poll(polled.data(), polled.size(), -1) <= 0) {
      continue;
    }
    if (polled[0].revents != 0) {
      Hear(packets, events);
    }
    if (polled[1].revents != 0) {
      Echo(packets);
    }
  }
}
