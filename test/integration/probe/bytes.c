#include <linux/falloc.h>
#include <linux/fs.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/statfs.h>
#include <sys/xattr.h>

#include "probe.h"

static const off_t kFar = 5LL << 30;  // beyond 4 GiB

static void XattrUser(void) {
  char value[2000] = "";
  Write("f", "x");
  Told("set", setxattr("f", "user.one", "1", 1, XATTR_CREATE));
  Told("again", setxattr("f", "user.one", "1", 1, XATTR_CREATE));
  Told("replace", setxattr("f", "user.two", "2", 1, XATTR_REPLACE));
  memset(value, 'v', sizeof(value));
  Told("large", setxattr("f", "user.large", value, sizeof(value), 0));
  Say("get=%zd small=%zd", getxattr("f", "user.large", value, sizeof(value)),
      getxattr("f", "user.large", value, 10));
  Say("list=%zd", listxattr("f", value, sizeof(value)));
  Told("remove", removexattr("f", "user.large"));
  Told("none", getxattr("f", "user.large", value, sizeof(value)));
  mkdir("d", 0755);
  Told("folder", setxattr("d", "user.one", "1", 1, 0));
  symlink("f", "s");
  Told("symlink", lsetxattr("s", "user.one", "1", 1, 0));
  const int fd = open("f", O_RDONLY);
  unlink("f");
  Told("unlinked", fgetxattr(fd, "user.one", value, sizeof(value)));
}

static void XattrOthers(void) {
  Write("f", "x");
  char value[100];
  Told("trusted", setxattr("f", "trusted.one", "1", 1, 0));
  Told("get", getxattr("f", "trusted.one", value, sizeof(value)));
  const unsigned capability[5] = {0x02000001, 1U << 10, 0, 0, 0};  // net_bind_service, effective
  Told("capability", setxattr("f", "security.capability", capability, 20, 0));
  Say("get=%zd", getxattr("f", "security.capability", value, sizeof(value)));
  Told("write", truncate("f", 0));
  Told("cleared", getxattr("f", "security.capability", value, sizeof(value)));
}

static void ReadsAcl(void) { Told("read", open("f", O_RDONLY)); }

static void Acl(void) {
  Write("f", "x");
  chmod("f", 0600);
  // version 2; owner rw, user 1000 r, group none, mask r, others none
  const unsigned char acl[] = {2, 0,   0,   0,   1,   0,   6,  0, 255, 255, 255, 255, 2,   0,  4,
                               0, 232, 3,   0,   0,   4,   0,  0, 0,   255, 255, 255, 255, 16, 0,
                               4, 0,   255, 255, 255, 255, 32, 0, 0,   0,   255, 255, 255, 255};
  Told("set", setxattr("f", "system.posix_acl_access", acl, sizeof(acl), 0));
  struct stat info;
  stat("f", &info);
  Say("mode=%o", info.st_mode & 07777);
  Join(Fork(ReadsAcl, 1000));
}

static void Lock(int fd, int command, short kind, const char* what) {
  struct flock lock = {.l_type = kind, .l_whence = SEEK_SET, .l_start = 10, .l_len = 10};
  Told(what, fcntl(fd, command, &lock));
}

static void OthersLocks(void) {
  const int fd = open("f", O_RDWR);
  Lock(fd, F_SETLK, F_WRLCK, "write-lock");
  Lock(fd, F_SETLK, F_RDLCK, "read-lock");
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 15, .l_len = 1};
  fcntl(fd, F_GETLK, &lock);
  SayIf("holder", lock.l_type == F_WRLCK && lock.l_pid == getppid());
  struct flock beside = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 20, .l_len = 1};
  Told("beside", fcntl(fd, F_SETLK, &beside));
  Lock(fd, F_OFD_SETLK, F_WRLCK, "description");
}

static void WaitsForLock(void) {
  const int fd = open("f", O_RDWR);
  Lock(fd, F_SETLKW, F_WRLCK, "waited");
  Say("read=%s", ReadFd(fd, 0, 9));
}

static void LocksPosix(void) {
  const int fd = Make("f", "old");
  Lock(fd, F_SETLK, F_WRLCK, "lock");
  Join(Fork(OthersLocks, 0));
  const pid_t pid = Fork(WaitsForLock, 0);
  usleep(200000);
  pwrite(fd, "new", 3, 0);
  close(open("f", O_RDONLY));  // any close of the file lets all go
  Join(pid);
}

static void OthersFlock(void) {
  const int fd = open("f", O_RDONLY);
  Told("shared", flock(fd, LOCK_SH | LOCK_NB));
  Told("exclusive", flock(fd, LOCK_EX | LOCK_NB));
}

static void LocksFlock(void) {
  const int fd = Make("f", "");
  Told("lock", flock(fd, LOCK_EX));
  Lock(fd, F_SETLK, F_WRLCK, "own-range");
  Join(Fork(OthersFlock, 0));
  Told("downgrade", flock(fd, LOCK_SH));
  Join(Fork(OthersFlock, 0));
  Told("unlock", flock(fd, LOCK_UN));
  Join(Fork(OthersFlock, 0));
  Write("l", "");
  Told("lease", fcntl(open("l", O_RDONLY), F_SETLEASE, F_RDLCK));
}

static void Appends(void) {
  const int fd = open("f", O_WRONLY | O_APPEND);
  for (int i = 0; i < 300; ++i) {
    if (write(fd, "0123456789abcdefghijklmnopqrstu\n", 32) != 32) {
      exit(1);
    }
  }
}

static void Append(void) {
  const int fd = Make("f", "");
  const pid_t one = Fork(Appends, 0), two = Fork(Appends, 0);
  Join(one);
  Join(two);
  struct stat info;
  fstat(fd, &info);
  bool whole = true;
  for (off_t at = 0; at < info.st_size; at += 32) {
    whole = whole && strcmp(ReadFd(fd, at, 32), "0123456789abcdefghijklmnopqrstu\n") == 0;
  }
  Say("size=%ld", info.st_size);
  SayIf("whole", whole);
  const int append = open("f", O_WRONLY | O_APPEND);
  pwrite(append, "end", 3, 0);  // Linux appends all the same
  fstat(fd, &info);
  Say("pwrite=%ld", info.st_size);
}

static char* Map(int fd, int kind, size_t size) {
  char* map = mmap(NULL, size, PROT_READ | PROT_WRITE, kind, fd, 0);
  if (map == MAP_FAILED) {
    Told("mmap", -1);
    exit(0);
  }
  return map;
}

static void WritesMap(void) {
  char* map = Map(open("f", O_RDWR), MAP_SHARED, 8192);
  memcpy(map + 10, "other", 5);
}

static void MapShared(void) {
  const int fd = Make("f", "text");
  ftruncate(fd, 8192);
  char* map = Map(fd, MAP_SHARED, 8192);
  memcpy(map, "TE", 2);
  Say("read=%s", ReadFd(fd, 0, 9));
  pwrite(fd, "zz", 2, 2);
  Say("map=%.4s", map);
  Join(Fork(WritesMap, 0));
  Say("others=%.5s read=%s", map + 10, ReadFd(fd, 10, 5));
  Told("msync", msync(map, 8192, MS_SYNC));
  unlink("f");
  map[4096] = 'u';
  Told("unlinked", msync(map, 8192, MS_SYNC));
  Say("read=%s", ReadFd(fd, 4096, 1));
  ftruncate(fd, 4096);
  Say("page=%c", map[0]);
}

static void BeyondEnd(void) {
  const char* map = Map(open("f", O_RDWR), MAP_SHARED, 8192);
  Say("tail=%d", map[100]);
  Say("never=%d", ((volatile const char*)map)[5000]);
}

static void MapPrivate(void) {
  const int fd = Make("f", "text");
  char* map = Map(fd, MAP_PRIVATE, 4096);
  map[0] = 'X';
  Say("map=%.4s read=%s", map, ReadFd(fd, 0, 9));
  Join(Fork(BeyondEnd, 0));
}

static void Sparse(void) {
  const int fd = Make("f", "begin");
  Told("far", pwrite(fd, "end", 3, kFar));
  struct stat info;
  fstat(fd, &info);
  Say("size=%ld", info.st_size);
  SayIf("small", info.st_blocks < 1000);
  Say("read=%s middle=%d", ReadFd(fd, kFar, 3), ReadFd(fd, kFar / 2, 1)[0]);
  const off_t hole = lseek(fd, 0, SEEK_HOLE), data = lseek(fd, 1 << 20, SEEK_DATA);
  SayIf("hole", hole > 0 && hole <= 1 << 20);
  SayIf("data", data == kFar);
  Told("beyond", lseek(fd, kFar + 10, SEEK_DATA));
  Told("too-far", ftruncate(fd, kFar * 2));
}

static void Allocate(void) {
  const int fd = Make("f", "");
  char block[4096];
  memset(block, 'b', sizeof(block));
  for (int i = 0; i < 8; ++i) {
    pwrite(fd, block, sizeof(block), i * 4096L);
  }
  Told("punch", fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 8192));
  Say("inside=%d before=%c", ReadFd(fd, 4096, 1)[0], ReadFd(fd, 4095, 1)[0]);
  Told("zero", fallocate(fd, FALLOC_FL_ZERO_RANGE, 16384, 4096));
  Told("grow", fallocate(fd, 0, 0, 1 << 20));
  struct stat info;
  fstat(fd, &info);
  Say("size=%ld", info.st_size);
  SayIf("blocks", info.st_blocks >= 2000);
  Told("keep", fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 2 << 20));
  Told("collapse", fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, 4096));
  Told("posix", posix_fallocate(fd, 0, 3 << 20) == 0 ? 0 : -1);
}

static void Times(void) {
  const int fd = Make("f", "x");
  const struct timespec old[2] = {{1000000000, 123456789}, {-5, 987654321}};
  Told("set", futimens(fd, old));
  struct stat info;
  stat("f", &info);
  Say("%ld.%09ld %ld.%09ld", info.st_atim.tv_sec, info.st_atim.tv_nsec, info.st_mtim.tv_sec,
      info.st_mtim.tv_nsec);
  const struct timespec some[2] = {{0, UTIME_OMIT}, {4102444800, 1}};  // the year 2100
  Told("omit", utimensat(AT_FDCWD, "f", some, 0));
  stat("f", &info);
  Say("%ld %ld", info.st_atim.tv_sec, info.st_mtim.tv_sec);
  pwrite(fd, "y", 1, 0);
  fstat(fd, &info);
  SayIf("write-now", info.st_mtim.tv_sec < 4102444800);
  futimens(fd, old);
  char* map = Map(fd, MAP_SHARED, 4096);
  map[0] = 'z';
  msync(map, 4096, MS_SYNC);
  fstat(fd, &info);
  SayIf("map-now", info.st_mtim.tv_sec > 0);
  const struct timespec before = info.st_ctim;
  usleep(20000);
  chmod("f", 0600);
  stat("f", &info);
  SayIf("ctime", info.st_ctim.tv_sec != before.tv_sec || info.st_ctim.tv_nsec != before.tv_nsec);
  struct statx more = {0};
  statx(AT_FDCWD, "f", 0, STATX_ALL, &more);
  SayIf("birth", (more.stx_mask & STATX_BTIME) != 0);
}

static unsigned Mode(const char* path) {
  struct stat info = {0};
  stat(path, &info);
  return info.st_mode & 07777;
}

static void WritesSuid(void) {
  const int fd = open("w", O_WRONLY);
  Told("write", write(fd, "x", 1));
  Told("truncate", truncate("t", 0));
  char* map = Map(open("m", O_RDWR), MAP_SHARED, 4096);
  map[0] = 'x';
  msync(map, 4096, MS_SYNC);
}

static void Suid(void) {
  for (const char* name = "wtmca"; *name != 0; ++name) {
    const char path[] = {*name, 0};
    Write(path, "text");
    chmod(path, 06777);
  }
  Join(Fork(WritesSuid, 1000));
  Say("write=%o truncate=%o map=%o", Mode("w"), Mode("t"), Mode("m"));
  Told("chown", chown("c", 1000, 1000));
  Say("mode=%o", Mode("c"));
  const int fd = open("a", O_WRONLY);
  Told("root", write(fd, "x", 1));  // who has CAP_FSETID keeps it
  Say("mode=%o", Mode("a"));
  Told("chown", chown("a", -1, 70000));
  chmod("c", 0);
  Say("none=%o", Mode("c"));
}

static void Sync(void) {
  const int fd = Make("f", "text"), folder = open(".", O_RDONLY | O_DIRECTORY);
  Told("fsync", fsync(fd));
  Told("fdatasync", fdatasync(fd));
  Told("range", sync_file_range(fd, 0, 4, SYNC_FILE_RANGE_WRITE));
  Told("folder", fsync(folder));
  Told("syncfs", syncfs(fd));
  const int sync = open("s", O_CREAT | O_WRONLY | O_SYNC, 0644);
  Told("o-sync", write(sync, "x", 1));
}

static void Truncate(void) {
  const int fd = Make("f", "0123456789");
  Told("shrink", ftruncate(fd, 3));
  Told("grow", ftruncate(fd, 10000));
  Say("read=%s zero=%d", ReadFd(fd, 0, 9), ReadFd(fd, 5, 1)[0] | ReadFd(fd, 9999, 1)[0]);
  Told("path", truncate("f", 1));
  struct stat info;
  fstat(fd, &info);
  Say("size=%ld", info.st_size);
  Told("read-only", ftruncate(open("f", O_RDONLY), 0));
  Told("folder", truncate(".", 0));
  close(open("f", O_WRONLY | O_TRUNC));
  fstat(fd, &info);
  Say("size=%ld", info.st_size);
}

static void Copies(void) {
  const int from = Make("from", "0123456789"), to = Make("to", "");
  loff_t in = 2, out = 0;
  Say("copied=%zd", copy_file_range(from, &in, to, &out, 5, 0));
  Say("read=%s", Read("to"));
  off_t at = 1;
  Say("sent=%zd", sendfile(to, from, &at, 3));
  Say("read=%s", Read("to"));
  Told("clone", ioctl(to, FICLONE, from));
}

static void Direct(void) {
  const int fd = open("f", O_CREAT | O_RDWR | O_DIRECT, 0644);
  if (Told("open", fd) < 0) {
    return;
  }
  char* block = aligned_alloc(4096, 4096);
  memset(block, 'd', 4096);
  Say("write=%zd", pwrite(fd, block, 4096, 0));
  memset(block, 0, 4096);
  Say("read=%zd", pread(fd, block, 4096, 0));
  Say("first=%c", block[0]);
  Say("buffered=%.2s", Read("f"));
}

static void Execute(void) {
  const int in = open("/proc/self/exe", O_RDONLY), out = open("p", O_CREAT | O_WRONLY, 0755);
  while (sendfile(out, in, NULL, 1 << 20) > 0) {
  }
  char* const words[] = {"p", "/nowhere", NULL};
  execv("p", words);
  Told("busy", -1);
  close(out);
  const pid_t pid = vfork();
  if (pid == 0) {
    close(2);
    execv("p", words);
    _exit(9);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  Say("exit=%d", WEXITSTATUS(status));
  chmod("p", 0644);
  execv("p", words);
  Told("not-executable", -1);
}

static void StatFs(void) {
  struct statfs info = {0};
  Told("statfs", statfs(".", &info));
  Say("type=%lx name=%ld", (unsigned long)info.f_type, info.f_namelen);
  SayIf("sane", info.f_bsize > 0 && info.f_blocks > 0 && info.f_bavail <= info.f_bfree &&
                    info.f_bfree <= info.f_blocks && info.f_ffree <= info.f_files);
}

static void Flags(void) {
  const int fd = Make("f", "");
  int flags = 0;
  Told("get", ioctl(fd, FS_IOC_GETFLAGS, &flags));
  flags |= FS_APPEND_FL;
  Told("append", ioctl(fd, FS_IOC_SETFLAGS, &flags));
  flags &= ~FS_APPEND_FL;
  ioctl(fd, FS_IOC_SETFLAGS, &flags);
  struct {
    struct file_handle head;
    char bytes[128];
  } handle = {.head.handle_bytes = 128};
  int mount = 0;
  Told("handle", name_to_handle_at(AT_FDCWD, "f", &handle.head, &mount, 0));
}

const struct Check kBytes[] = {{"xattr-user", XattrUser},
                               {"xattr-others", XattrOthers},
                               {"acl", Acl},
                               {"locks-posix", LocksPosix},
                               {"locks-flock", LocksFlock},
                               {"append", Append},
                               {"map-shared", MapShared},
                               {"map-private", MapPrivate},
                               {"sparse", Sparse},
                               {"allocate", Allocate},
                               {"times", Times},
                               {"suid", Suid},
                               {"sync", Sync},
                               {"truncate", Truncate},
                               {"copies", Copies},
                               {"direct", Direct},
                               {"execute", Execute},
                               {"statfs", StatFs},
                               {"flags", Flags},
                               {NULL, NULL}};
