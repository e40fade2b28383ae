// Process 1 of a guest in tests: tells on the console of each drive that comes and goes. A drive
// that can be written gets a greeting in its second sector.
#include <dirent.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>

namespace {

constexpr off_t kSector = 512;

std::string Line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

void Tell(const std::string& name) {
  const std::string sys = "/sys/block/" + name + "/";
  const std::string serial = Line(sys + "serial");
  if (serial.empty()) {
    return;
  }
  const bool read_only = Line(sys + "ro") == "1";
  const int fd = ::open(("/dev/" + name).c_str(), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
  std::array<char, 17> head{};
  const bool read = fd >= 0 && ::pread(fd, head.data(), head.size() - 1, 0) > 0;
  std::string greeting = "written by the guest to " + serial;
  greeting.resize(kSector);
  const bool written =
      !read_only && ::pwrite(fd, greeting.data(), kSector, kSector) == kSector && ::fsync(fd) == 0;
  ::close(fd);
  std::printf("<drive %s %s sectors=%s head=%s%s>\n", serial.c_str(), read_only ? "ro" : "rw",
              Line(sys + "size").c_str(), read ? head.data() : "unreadable",
              written ? " written" : "");
}

void TellAll() {
  DIR* folder = ::opendir("/sys/block");
  if (folder == nullptr) {
    std::printf("<no /sys/block>\n");
    return;
  }
  while (const dirent* entry = ::readdir(folder)) {
    if (entry->d_name[0] == 'v') {
      Tell(entry->d_name);
    }
  }
  ::closedir(folder);
}

}  // namespace

int main() {
  ::mount("sys", "/sys", "sysfs", 0, nullptr);
  ::mount("dev", "/dev", "devtmpfs", 0, nullptr);
  const int events = ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
  sockaddr_nl address{};
  address.nl_family = AF_NETLINK;
  address.nl_groups = 1;
  if (::bind(events, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    std::perror("bind");
    return 1;
  }
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  std::printf("<ready>\n");
  TellAll();
  std::array<char, 8192> event{};
  for (;;) {
    const ssize_t size = ::recv(events, event.data(), event.size() - 1, 0);
    if (size <= 0) {
      continue;
    }
    event[static_cast<size_t>(size)] = '\0';
    const std::string what = event.data();  // "add@/devices/.../block/vda"
    const std::string name = what.substr(what.rfind('/') + 1);
    if (what.find("/block/") == std::string::npos) {
      continue;
    }
    if (what.starts_with("add@")) {
      Tell(name);
    } else if (what.starts_with("remove@")) {
      std::printf("<gone %s>\n", name.c_str());
    }
  }
}
