// The one system call layer: thin wrappers that return an Error naming the call and its object.
// Only this file's .cc (and base/child.cc, between fork and exec) reads errno.
#pragma once

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/un.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::sys {

// --- files. Every fd is opened close-on-exec.
Result<UniqueFd> Open(const std::string& path, int flags, mode_t mode = 0);
Result<UniqueFd> OpenAt(int dir, const std::string& path, int flags, mode_t mode = 0);
// openat2(2): `resolve` is a set of RESOLVE_* bits, which bound where the path may lead.
Result<UniqueFd> OpenAt2(int dir, const std::string& path, int flags, mode_t mode,
                         uint64_t resolve);
Result<size_t> Read(int fd, std::span<std::byte> buffer);
Result<size_t> Write(int fd, std::span<const std::byte> data);
Status WriteAll(int fd, std::string_view data);
// The whole file, or an error when it is longer than `limit` bytes.
Result<std::string> ReadFile(const std::string& path, size_t limit = 16U << 20U);
Result<std::string> ReadFd(int fd, size_t limit, std::string_view name);
// Creates or truncates.
Status WriteFile(const std::string& path, std::string_view data, mode_t mode = 0644);
// Writes to a file that must exist (procfs, cgroupfs, sysfs): one write(2), no creation.
Status WriteExisting(const std::string& path, std::string_view data);
// Write to a temporary file beside it, then rename: readers see the old or the new, never half.
Status WriteFileAtomically(const std::string& path, std::string_view data, mode_t mode = 0644);
Result<struct stat> Stat(const std::string& path);
Result<struct stat> LStat(const std::string& path);
Result<struct stat> FStat(int fd);
bool Exists(const std::string& path);
bool IsDirectory(const std::string& path);
Status Mkdir(const std::string& path, mode_t mode = 0755);     // fails when it exists
Status MkdirAll(const std::string& path, mode_t mode = 0755);  // mkdir -p
Status Unlink(const std::string& path);
Status Rmdir(const std::string& path);
// Removes a tree without following links; a path that does not exist is success.
Status RemoveAll(const std::string& path);
Status Rename(const std::string& from, const std::string& to);
Status Symlink(const std::string& target, const std::string& path);
Result<std::string> ReadLink(const std::string& path);
Status Chmod(const std::string& path, mode_t mode);
Status Chown(const std::string& path, uid_t uid, gid_t gid);
Status Mknod(const std::string& path, mode_t mode, dev_t device);
Status Mkfifo(const std::string& path, mode_t mode);
Status Ftruncate(int fd, off_t size);
Result<UniqueFd> Dup(int fd);  // close-on-exec
Result<std::vector<std::string>> ListDirectory(const std::string& path);

// --- files below a directory fd, for trees that somebody else filled: a last component that is a
// symbolic link is never followed
Result<struct stat> LStatAt(int dir, const std::string& name);
Result<std::string> ReadLinkAt(int dir, const std::string& name);
Status MkdirAt(int dir, const std::string& name, mode_t mode);
Status MknodAt(int dir, const std::string& name, mode_t mode, dev_t device);
Status SymlinkAt(const std::string& target, int dir, const std::string& name);
Status LinkAt(int from_dir, const std::string& from, int to_dir, const std::string& to);
Status RenameAt(int from_dir, const std::string& from, int to_dir, const std::string& to);
Status UnlinkAt(int dir, const std::string& name, int flags = 0);
Status ChownAt(int dir, const std::string& name, uid_t uid, gid_t gid);
Status ChmodAt(int dir, const std::string& name, mode_t mode);  // the name must not be a link
Status SetTimesAt(int dir, const std::string& name, const struct timespec& time);
Status LSetXattr(const std::string& path, const std::string& name, std::string_view value);
// nullopt when it has no such attribute, or the file system none at all.
Result<std::optional<std::string>> LGetXattr(const std::string& path, const std::string& name);
// The names of its attributes; none where the file system has no such thing.
Result<std::vector<std::string>> LListXattr(const std::string& path);
// A new folder of mode 0700 with a random name that begins with `prefix`; returns its path.
Result<std::string> MakeTempDir(const std::string& prefix);
Result<size_t> ReadAt(int fd, std::span<std::byte> buffer, uint64_t offset);  // pread(2)
Status WriteAllAt(int fd, std::span<const std::byte> data, uint64_t offset);
// flock(2), exclusive. False when another holds it and `wait` is false.
Result<bool> LockFile(int fd, bool wait);
// Waits for an exclusive lock on one byte of the file. It belongs to the open file, not to the
// process: it ends when the fd is closed.
Status LockByte(int fd, uint64_t offset);

// --- fds, pipes, sockets
struct Pipe {
  UniqueFd read;
  UniqueFd write;
};
Result<Pipe> MakePipe(int flags = 0);  // O_CLOEXEC is added
struct SocketPair {
  UniqueFd first;
  UniqueFd second;
};
Result<SocketPair> MakeSocketPair(int type);  // AF_UNIX; SOCK_CLOEXEC is added
Result<UniqueFd> ListenUnix(const std::string& path, mode_t mode, int backlog = 64);
// No timeout: waits for ever when the listener's queue is full.
Result<UniqueFd> ConnectUnix(const std::string& path,
                             std::optional<std::chrono::milliseconds> timeout = std::nullopt);
Result<UniqueFd> Accept(int fd);
Result<::ucred> PeerCredentials(int fd);
Status SetNonblocking(int fd, bool on);
Status SetCloexec(int fd, bool on);
Result<UniqueFd> MemFd(const std::string& name, unsigned flags = 0);  // MFD_CLOEXEC is added
Result<UniqueFd> EventFd();
// One message with fds attached (SCM_RIGHTS). Works on SEQPACKET and STREAM sockets.
Status SendWithFds(int socket, std::string_view data, std::span<const int> fds);
struct Message {
  std::string data;
  std::vector<UniqueFd> fds;
  bool closed = false;  // end of file: the peer is gone
};
Result<Message> ReceiveWithFds(int socket, size_t limit, size_t max_fds);
// poll(2) on one fd. False when the time ran out; no timeout waits for ever.
Result<bool> PollOne(int fd, short events, std::optional<std::chrono::milliseconds> timeout);

// --- mounts and namespaces
Status Mount(const std::string& source, const std::string& target, const std::string& type,
             unsigned long flags, const std::string& data = "");
Status Unmount(const std::string& target, int flags = 0);
Status Unshare(int flags);
Status SetNs(int fd, int type);
Status PivotRoot(const std::string& new_root, const std::string& put_old);
Status Chroot(const std::string& path);
Status Chdir(const std::string& path);
Status Fchdir(int fd);
Status SetHostname(const std::string& name);

// --- processes
Result<UniqueFd> PidfdOpen(pid_t pid);
Status PidfdSendSignal(int pidfd, int signal);
Status Kill(pid_t pid, int signal);
struct Exit {
  int code = 0;    // exit code, when signal is 0
  int signal = 0;  // the signal that ended it
  // As a shell reports it: the code, or 128 + signal.
  int ShellCode() const { return signal != 0 ? 128 + signal : code; }
};
// Reaps the child behind a pidfd. nullopt when it still runs and the time ran out.
Result<std::optional<Exit>> WaitPidfd(int pidfd, std::optional<std::chrono::milliseconds> timeout);
Status SetParentDeathSignal(int signal);

// --- for a call that has no wrapper here
int LastErrno();
// An error named by the format when `result` is -1: CheckCall(::prctl(...), "PR_SET_DUMPABLE").
template <typename... Args>
Status CheckCall(long result, fmt::format_string<Args...> format, Args&&... args) {
  if (result == -1) {
    return MakeErrno(LastErrno(), format, std::forward<Args>(args)...);
  }
  return {};
}

}  // namespace bulkhead::sys
