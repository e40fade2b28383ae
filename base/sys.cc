#include "base/sys.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace bulkhead::sys {
namespace {

// Repeats a call that a signal interrupted.
template <typename F>
auto Retry(F call) {
  auto result = call();
  while (result == -1 && errno == EINTR) {
    result = call();
  }
  return result;
}

template <typename... Args>
tl::unexpected<Error> LastError(fmt::format_string<Args...> format, Args&&... args) {
  return MakeErrno(errno, format, std::forward<Args>(args)...);
}

template <typename... Args>
Status Check(int result, fmt::format_string<Args...> format, Args&&... args) {
  if (result == -1) {
    return LastError(format, std::forward<Args>(args)...);
  }
  return {};
}

template <typename... Args>
Result<UniqueFd> CheckFd(int fd, fmt::format_string<Args...> format, Args&&... args) {
  if (fd == -1) {
    return LastError(format, std::forward<Args>(args)...);
  }
  return UniqueFd(fd);
}

Result<sockaddr_un> UnixAddress(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return MakeErrno(ENAMETOOLONG, "socket path {}", path);
  }
  std::copy(path.begin(), path.end(), std::begin(address.sun_path));
  return address;
}

}  // namespace

Result<UniqueFd> Open(const std::string& path, int flags, mode_t mode) {
  return OpenAt(AT_FDCWD, path, flags, mode);
}

Result<UniqueFd> OpenAt(int dir, const std::string& path, int flags, mode_t mode) {
  return CheckFd(Retry([&] { return ::openat(dir, path.c_str(), flags | O_CLOEXEC, mode); }),
                 "open {}", path);
}

Result<UniqueFd> OpenAt2(int dir, const std::string& path, int flags, mode_t mode,
                         uint64_t resolve) {
  open_how how{};
  how.flags = static_cast<uint64_t>(flags | O_CLOEXEC);
  how.mode = mode;
  how.resolve = resolve;
  auto call = [&] {
    return static_cast<int>(::syscall(SYS_openat2, dir, path.c_str(), &how, sizeof(how)));
  };
  return CheckFd(Retry(call), "open {}", path);
}

Result<size_t> Read(int fd, std::span<std::byte> buffer) {
  const ssize_t count = Retry([&] { return ::read(fd, buffer.data(), buffer.size()); });
  if (count == -1) {
    return LastError("read");
  }
  return static_cast<size_t>(count);
}

Result<size_t> Write(int fd, std::span<const std::byte> data) {
  const ssize_t count = Retry([&] { return ::write(fd, data.data(), data.size()); });
  if (count == -1) {
    return LastError("write");
  }
  return static_cast<size_t>(count);
}

Status WriteAll(int fd, std::string_view data) {
  auto rest = std::as_bytes(std::span(data));
  while (!rest.empty()) {
    rest = rest.subspan(TRY(Write(fd, rest)));
  }
  return {};
}

Result<std::string> ReadFd(int fd, size_t limit, std::string_view name) {
  std::string content;
  std::array<std::byte, 65536> buffer{};
  while (true) {
    const size_t count = TRY_AS(Read(fd, buffer), "{}", name);
    if (count == 0) {
      return content;
    }
    if (content.size() + count > limit) {
      return MakeError(ErrorCode::kResourceExhausted, "{}: longer than the limit of {} bytes", name,
                       limit);
    }
    content.append(reinterpret_cast<const char*>(buffer.data()), count);
  }
}

Result<std::string> ReadFile(const std::string& path, size_t limit) {
  const UniqueFd fd = TRY(Open(path, O_RDONLY));
  return ReadFd(fd.get(), limit, path);
}

Status WriteFile(const std::string& path, std::string_view data, mode_t mode) {
  const UniqueFd fd = TRY(Open(path, O_WRONLY | O_CREAT | O_TRUNC, mode));
  TRY_AS(WriteAll(fd.get(), data), "{}", path);
  return {};
}

Status WriteExisting(const std::string& path, std::string_view data) {
  const UniqueFd fd = TRY(Open(path, O_WRONLY));
  TRY_AS(Write(fd.get(), std::as_bytes(std::span(data))), "{} (value \"{}\")", path, data);
  return {};
}

Status WriteFileAtomically(const std::string& path, std::string_view data, mode_t mode) {
  const std::string temporary = fmt::format("{}.{}.tmp", path, ::getpid());
  if (auto written = WriteFile(temporary, data, mode); !written) {
    ::unlink(temporary.c_str());
    return written;
  }
  return Rename(temporary, path);
}

Result<struct stat> Stat(const std::string& path) {
  struct stat info {};
  TRY(Check(::stat(path.c_str(), &info), "{}", path));
  return info;
}

Result<struct stat> LStat(const std::string& path) {
  struct stat info {};
  TRY(Check(::lstat(path.c_str(), &info), "{}", path));
  return info;
}

Result<struct stat> FStat(int fd) {
  struct stat info {};
  TRY(Check(::fstat(fd, &info), "fstat"));
  return info;
}

bool Exists(const std::string& path) { return Stat(path).has_value(); }

bool IsDirectory(const std::string& path) {
  const auto info = Stat(path);
  return info && S_ISDIR(info->st_mode);
}

Status Mkdir(const std::string& path, mode_t mode) {
  return Check(::mkdir(path.c_str(), mode), "mkdir {}", path);
}

Status MkdirAll(const std::string& path, mode_t mode) {
  for (size_t end = path.find('/', 1); end != std::string::npos; end = path.find('/', end + 1)) {
    if (::mkdir(path.substr(0, end).c_str(), mode) == -1 && errno != EEXIST) {
      return LastError("mkdir {}", path.substr(0, end));
    }
  }
  if (::mkdir(path.c_str(), mode) == -1 && !(errno == EEXIST && IsDirectory(path))) {
    return LastError("mkdir {}", path);
  }
  return {};
}

Status Unlink(const std::string& path) { return Check(::unlink(path.c_str()), "unlink {}", path); }

Status Rmdir(const std::string& path) { return Check(::rmdir(path.c_str()), "rmdir {}", path); }

namespace {

Status RemoveChildren(UniqueFd dir, const std::string& path);

Status RemoveAt(int dir, const std::string& name, const std::string& path) {
  if (::unlinkat(dir, name.c_str(), 0) == 0 || errno == ENOENT) {
    return {};
  }
  if (errno != EISDIR && errno != EPERM) {
    return LastError("remove {}", path);
  }
  const int unlink_errno = errno;
  auto child = OpenAt(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!child) {
    return MakeErrno(unlink_errno, "remove {}", path);
  }
  TRY(RemoveChildren(std::move(*child), path));
  return Check(::unlinkat(dir, name.c_str(), AT_REMOVEDIR), "rmdir {}", path);
}

Status RemoveChildren(UniqueFd dir, const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(dir.get()), &::closedir);
  if (stream == nullptr) {
    return LastError("open {}", path);
  }
  const int fd = dir.Release();  // closedir closes it
  while (const dirent* entry = ::readdir(stream.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") {
      TRY(RemoveAt(fd, entry->d_name, fmt::format("{}/{}", path, name)));
    }
  }
  return {};
}

}  // namespace

Status RemoveAll(const std::string& path) { return RemoveAt(AT_FDCWD, path, path); }

Status Rename(const std::string& from, const std::string& to) {
  return Check(::rename(from.c_str(), to.c_str()), "rename {} to {}", from, to);
}

Status Symlink(const std::string& target, const std::string& path) {
  return Check(::symlink(target.c_str(), path.c_str()), "symlink {}", path);
}

Result<std::string> ReadLink(const std::string& path) {
  std::array<char, 4096> buffer{};
  const ssize_t size = ::readlink(path.c_str(), buffer.data(), buffer.size());
  if (size == -1) {
    return LastError("readlink {}", path);
  }
  return std::string(buffer.data(), static_cast<size_t>(size));
}

Status Chmod(const std::string& path, mode_t mode) {
  return Check(::chmod(path.c_str(), mode), "chmod {}", path);
}

Status Chown(const std::string& path, uid_t uid, gid_t gid) {
  return Check(::chown(path.c_str(), uid, gid), "chown {}", path);
}

Status Mknod(const std::string& path, mode_t mode, dev_t device) {
  return Check(::mknod(path.c_str(), mode, device), "mknod {}", path);
}

Status Mkfifo(const std::string& path, mode_t mode) {
  return Check(::mkfifo(path.c_str(), mode), "mkfifo {}", path);
}

Status Ftruncate(int fd, off_t size) { return Check(::ftruncate(fd, size), "ftruncate"); }

Result<UniqueFd> Dup(int fd) { return CheckFd(::fcntl(fd, F_DUPFD_CLOEXEC, 3), "dup"); }

Result<std::vector<std::string>> ListDirectory(const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(path.c_str()), &::closedir);
  if (dir == nullptr) {
    return LastError("open {}", path);
  }
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(dir.get())) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") {
      names.emplace_back(name);
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

Result<struct stat> LStatAt(int dir, const std::string& name) {
  struct stat info {};
  TRY(Check(::fstatat(dir, name.c_str(), &info, AT_SYMLINK_NOFOLLOW), "{}", name));
  return info;
}

Result<std::string> ReadLinkAt(int dir, const std::string& name) {
  std::array<char, 4096> buffer{};
  const ssize_t size = ::readlinkat(dir, name.c_str(), buffer.data(), buffer.size());
  if (size == -1) {
    return LastError("readlink {}", name);
  }
  return std::string(buffer.data(), static_cast<size_t>(size));
}

Status MkdirAt(int dir, const std::string& name, mode_t mode) {
  return Check(::mkdirat(dir, name.c_str(), mode), "mkdir {}", name);
}

Status MknodAt(int dir, const std::string& name, mode_t mode, dev_t device) {
  return Check(::mknodat(dir, name.c_str(), mode, device), "mknod {}", name);
}

Status SymlinkAt(const std::string& target, int dir, const std::string& name) {
  return Check(::symlinkat(target.c_str(), dir, name.c_str()), "symlink {}", name);
}

Status LinkAt(int from_dir, const std::string& from, int to_dir, const std::string& to) {
  return Check(::linkat(from_dir, from.c_str(), to_dir, to.c_str(), 0), "link {} to {}", to, from);
}

Status RenameAt(int from_dir, const std::string& from, int to_dir, const std::string& to) {
  return Check(::renameat(from_dir, from.c_str(), to_dir, to.c_str()), "rename {} to {}", from, to);
}

Status UnlinkAt(int dir, const std::string& name, int flags) {
  return Check(::unlinkat(dir, name.c_str(), flags), "remove {}", name);
}

Status ChownAt(int dir, const std::string& name, uid_t uid, gid_t gid) {
  return Check(::fchownat(dir, name.c_str(), uid, gid, AT_SYMLINK_NOFOLLOW), "chown {}", name);
}

Status ChmodAt(int dir, const std::string& name, mode_t mode) {
  return Check(::fchmodat(dir, name.c_str(), mode, 0), "chmod {}", name);
}

Status SetTimesAt(int dir, const std::string& name, const struct timespec& time) {
  const std::array<struct timespec, 2> times{time, time};
  return Check(::utimensat(dir, name.c_str(), times.data(), AT_SYMLINK_NOFOLLOW), "set time of {}",
               name);
}

Status LSetXattr(const std::string& path, const std::string& name, std::string_view value) {
  return Check(::lsetxattr(path.c_str(), name.c_str(), value.data(), value.size(), 0),
               "set attribute {}", name);
}

Result<std::optional<std::string>> LGetXattr(const std::string& path, const std::string& name) {
  std::string value(65536, '\0');  // XATTR_SIZE_MAX
  const ssize_t size = ::lgetxattr(path.c_str(), name.c_str(), value.data(), value.size());
  if (size == -1) {
    if (errno == ENODATA || errno == ENOTSUP) {
      return std::nullopt;
    }
    return LastError("attribute {} of {}", name, path);
  }
  value.resize(static_cast<size_t>(size));
  return value;
}
Result<std::vector<std::string>> LListXattr(const std::string& path) {
  std::string list(65536, '\0');  // XATTR_LIST_MAX
  const ssize_t size = ::llistxattr(path.c_str(), list.data(), list.size());
  std::vector<std::string> names;
  if (size == -1 && errno != ENOTSUP) {
    return LastError("attributes of {}", path);
  }
  for (ssize_t next = 0; next < size; next += static_cast<ssize_t>(names.back().size()) + 1) {
    names.emplace_back(list.c_str() + next);
  }
  return names;
}

Result<std::string> MakeTempDir(const std::string& prefix) {
  std::string path = prefix + "XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) {
    return LastError("mkdir {}", path);
  }
  return path;
}

Result<size_t> ReadAt(int fd, std::span<std::byte> buffer, uint64_t offset) {
  const ssize_t count =
      Retry([&] { return ::pread(fd, buffer.data(), buffer.size(), static_cast<off_t>(offset)); });
  if (count == -1) {
    return LastError("read");
  }
  return static_cast<size_t>(count);
}

Status WriteAllAt(int fd, std::span<const std::byte> data, uint64_t offset) {
  while (!data.empty()) {
    const ssize_t count =
        Retry([&] { return ::pwrite(fd, data.data(), data.size(), static_cast<off_t>(offset)); });
    if (count == -1) {
      return LastError("write");
    }
    data = data.subspan(static_cast<size_t>(count));
    offset += static_cast<uint64_t>(count);
  }
  return {};
}

Result<bool> LockFile(int fd, bool wait) {
  if (Retry([&] { return ::flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB)); }) == 0) {
    return true;
  }
  if (errno == EWOULDBLOCK) {
    return false;
  }
  return LastError("flock");
}

Status LockByte(int fd, uint64_t offset) {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(offset);
  lock.l_len = 1;
  return Check(Retry([&] { return ::fcntl(fd, F_OFD_SETLKW, &lock); }), "lock");
}

Result<Pipe> MakePipe(int flags) {
  std::array<int, 2> fds{};
  TRY(Check(::pipe2(fds.data(), flags | O_CLOEXEC), "pipe"));
  return Pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

Result<SocketPair> MakeSocketPair(int type) {
  std::array<int, 2> fds{};
  TRY(Check(::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds.data()), "socketpair"));
  return SocketPair{UniqueFd(fds[0]), UniqueFd(fds[1])};
}

Result<UniqueFd> ListenUnix(const std::string& path, mode_t mode, int backlog) {
  const sockaddr_un address = TRY(UnixAddress(path));
  UniqueFd fd = TRY(CheckFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
  // The mode of the socket's inode is what fchmod before bind leaves in place.
  TRY(Check(::fchmod(fd.get(), mode), "chmod {}", path));
  TRY(Check(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)),
            "bind {}", path));
  TRY(Check(::listen(fd.get(), backlog), "listen {}", path));
  return fd;
}

Result<UniqueFd> ConnectUnix(const std::string& path,
                             std::optional<std::chrono::milliseconds> timeout) {
  const sockaddr_un address = TRY(UnixAddress(path));
  UniqueFd fd = TRY(CheckFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
  const auto limit = [&](std::chrono::microseconds time) {
    const timeval value{time.count() / 1'000'000, time.count() % 1'000'000};
    return Check(::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &value, sizeof(value)),
                 "SO_SNDTIMEO");
  };
  if (timeout) {
    // connect(2) of a UNIX socket heeds it; zero would be none.
    TRY(limit(std::max<std::chrono::microseconds>(*timeout, std::chrono::microseconds(1))));
  }
  auto call = [&] {
    return ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  };
  TRY(Check(Retry(call), "connect {}", path));
  if (timeout) {
    TRY(limit(std::chrono::microseconds(0)));
  }
  return fd;
}

Result<UniqueFd> Accept(int fd) {
  return CheckFd(Retry([&] { return ::accept4(fd, nullptr, nullptr, SOCK_CLOEXEC); }), "accept");
}

Result<::ucred> PeerCredentials(int fd) {
  ::ucred credentials{};
  socklen_t size = sizeof(credentials);
  TRY(Check(::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size), "SO_PEERCRED"));
  return credentials;
}

Status SetNonblocking(int fd, bool on) {
  const int flags = ::fcntl(fd, F_GETFL);
  TRY(Check(flags, "fcntl F_GETFL"));
  return Check(::fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK),
               "fcntl F_SETFL");
}

Status SetCloexec(int fd, bool on) {
  return Check(::fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0), "fcntl F_SETFD");
}

Result<UniqueFd> MemFd(const std::string& name, unsigned flags) {
  return CheckFd(::memfd_create(name.c_str(), flags | MFD_CLOEXEC), "memfd_create {}", name);
}

Result<UniqueFd> EventFd() { return CheckFd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd"); }

Status SendWithFds(int socket, std::string_view data, std::span<const int> fds) {
  iovec vector{const_cast<char*>(data.data()), data.size()};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  std::vector<char> control(CMSG_SPACE(fds.size_bytes()));
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size_bytes());
    std::memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  }
  const ssize_t sent = Retry([&] { return ::sendmsg(socket, &message, MSG_NOSIGNAL); });
  if (sent == -1) {
    return LastError("sendmsg");
  }
  if (static_cast<size_t>(sent) != data.size()) {
    return MakeError(ErrorCode::kInternal, "sendmsg: sent {} of {} bytes", sent, data.size());
  }
  return {};
}

Result<Message> ReceiveWithFds(int socket, size_t limit, size_t max_fds) {
  Message result;
  result.data.resize(limit);
  std::vector<char> control(CMSG_SPACE(max_fds * sizeof(int)));
  iovec vector{result.data.data(), result.data.size()};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t size = Retry([&] { return ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC); });
  if (size == -1) {
    return LastError("recvmsg");
  }
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
      const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      std::vector<int> fds(count);
      std::memcpy(fds.data(), CMSG_DATA(header), count * sizeof(int));
      for (const int fd : fds) {
        result.fds.emplace_back(fd);
      }
    }
  }
  if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    return MakeError(ErrorCode::kResourceExhausted,
                     "recvmsg: message longer than {} bytes or {} fds", limit, max_fds);
  }
  result.data.resize(static_cast<size_t>(size));
  result.closed = size == 0 && limit > 0;
  return result;
}

Result<bool> PollOne(int fd, short events, std::optional<std::chrono::milliseconds> timeout) {
  using Clock = std::chrono::steady_clock;
  const auto deadline = Clock::now() + timeout.value_or(std::chrono::milliseconds(0));
  pollfd entry{fd, events, 0};
  while (true) {
    int wait = -1;
    if (timeout) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
      wait = static_cast<int>(std::max<int64_t>(0, left.count()));
    }
    const int ready = ::poll(&entry, 1, wait);
    if (ready >= 0) {
      return ready > 0;
    }
    if (errno != EINTR) {
      return LastError("poll");
    }
  }
}

Status Mount(const std::string& source, const std::string& target, const std::string& type,
             unsigned long flags, const std::string& data) {
  const char* options = data.empty() ? nullptr : data.c_str();
  return Check(::mount(source.c_str(), target.c_str(), type.empty() ? nullptr : type.c_str(), flags,
                       options),
               "mount {} on {}", source.empty() ? type : source, target);
}

Status Unmount(const std::string& target, int flags) {
  return Check(::umount2(target.c_str(), flags), "unmount {}", target);
}

Status Unshare(int flags) { return Check(::unshare(flags), "unshare {:#x}", flags); }

Status SetNs(int fd, int type) { return Check(::setns(fd, type), "setns {:#x}", type); }

Status PivotRoot(const std::string& new_root, const std::string& put_old) {
  return Check(static_cast<int>(::syscall(SYS_pivot_root, new_root.c_str(), put_old.c_str())),
               "pivot_root {}", new_root);
}

Status Chroot(const std::string& path) { return Check(::chroot(path.c_str()), "chroot {}", path); }

Status Chdir(const std::string& path) { return Check(::chdir(path.c_str()), "chdir {}", path); }

Status Fchdir(int fd) { return Check(::fchdir(fd), "fchdir"); }

Status SetHostname(const std::string& name) {
  return Check(::sethostname(name.data(), name.size()), "sethostname {}", name);
}

Result<UniqueFd> PidfdOpen(pid_t pid) {
  return CheckFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)), "pidfd_open {}", pid);
}

Status PidfdSendSignal(int pidfd, int signal) {
  return Check(static_cast<int>(::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0)),
               "send signal {}", signal);
}

Status Kill(pid_t pid, int signal) {
  return Check(::kill(pid, signal), "send signal {} to pid {}", signal, pid);
}

Result<std::optional<Exit>> WaitPidfd(int pidfd, std::optional<std::chrono::milliseconds> timeout) {
  if (!TRY(PollOne(pidfd, POLLIN, timeout))) {
    return std::nullopt;
  }
  siginfo_t info{};
  auto call = [&] { return ::waitid(P_PIDFD, static_cast<id_t>(pidfd), &info, WEXITED); };
  TRY(Check(Retry(call), "waitid"));
  if (info.si_code == CLD_EXITED) {
    return Exit{info.si_status, 0};
  }
  return Exit{0, info.si_status};
}

Status SetParentDeathSignal(int signal) {
  return Check(::prctl(PR_SET_PDEATHSIG, signal), "PR_SET_PDEATHSIG");
}

int LastErrno() { return errno; }

}  // namespace bulkhead::sys
