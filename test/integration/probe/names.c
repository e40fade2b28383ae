#include <dirent.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include "probe.h"

static nlink_t Links(int fd) {
  struct stat info = {0};
  return fstat(fd, &info) == 0 ? info.st_nlink : 99;
}

static void RenameOver(void) {
  const int old = Make("b", "old");
  Write("a", "new");
  Told("rename", rename("a", "b"));
  Say("open=%s links=%lu path=%s gone=%d", ReadFd(old, 0, 9), Links(old), Read("b"), !Exists("a"));
}

static void RenameFlags(void) {
  Write("a", "A");
  Write("b", "B");
  Told("noreplace", renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_NOREPLACE));
  Told("exchange", renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_EXCHANGE));
  Say("a=%s", Read("a"));
  Told("whiteout", renameat2(AT_FDCWD, "a", AT_FDCWD, "c", RENAME_WHITEOUT));
}

static void UnlinkOpen(void) {
  const int fd = Make("f", "text");
  Told("unlink", unlink("f"));
  Told("write", pwrite(fd, "TE", 2, 0));
  struct stat info = {0};
  Told("fstat", fstat(fd, &info));
  Say("read=%s links=%lu size=%ld", ReadFd(fd, 0, 9), info.st_nlink, info.st_size);
  Told("ftruncate", ftruncate(fd, 2));
  Told("fchmod", fchmod(fd, 0600));
  Told("fchown", fchown(fd, 5, 6));
  Told("futimens", futimens(fd, NULL));
  Told("fsync", fsync(fd));
  char path[40];
  sprintf(path, "/proc/self/fd/%d", fd);
  Say("again=%s", Read(path));
  Write("f", "other");
  Say("new=%s old=%s", Read("f"), ReadFd(fd, 0, 9));
}

static void UnlinkOpenFolder(void) {
  mkdir("d", 0755);
  const int fd = open("d", O_RDONLY | O_DIRECTORY);
  Told("chdir", chdir("d"));
  Told("rmdir", rmdir("../d"));
  Told("create", openat(fd, "x", O_CREAT | O_WRONLY, 0644));
  char path[500];
  Told("getcwd", getcwd(path, sizeof(path)) ? 0 : -1);
  struct stat info;
  Told("fstat", fstat(fd, &info));
  Told("leave", chdir(".."));
}

static void Folders(void) {
  mkdir("d", 0755);
  mkdir("e", 0755);
  mkdir("full", 0755);
  Write("full/x", "x");
  Told("rmdir-full", rmdir("full"));
  Told("over-full", rename("d", "full"));
  Told("over-empty", rename("full", "e"));
  Say("moved=%s", Read("e/x"));
  Told("into-itself", rename("e", "e/y"));
  Told("over-file", rename("d", "e/x"));
  Told("unlink-folder", unlink("d"));
  Told("rmdir-file", rmdir("e/x"));
  const int fd = open("e", O_RDONLY | O_DIRECTORY);
  Told("rename-open", rename("e", "f"));
  Told("below-it", openat(fd, "new", O_CREAT | O_WRONLY, 0644));
  Say("there=%d", Exists("f/new"));
}

static void HardLinks(void) {
  const int fd = Make("a", "text");
  Told("link", link("a", "b"));
  struct stat a, b;
  stat("a", &a);
  stat("b", &b);
  Say("same=%d links=%lu", a.st_ino == b.st_ino && a.st_dev == b.st_dev, b.st_nlink);
  Write("b", "other");
  Say("a=%s", Read("a"));
  Told("again", link("a", "b"));
  mkdir("d", 0755);
  Told("folder", link("d", "e"));
  Told("rename-to-itself", rename("a", "b"));
  Say("both=%d", Exists("a") && Exists("b"));
  unlink("a");
  Say("links=%lu", Links(fd));
  char path[40];
  sprintf(path, "/proc/self/fd/%d", fd);
  Told("link-fd", linkat(AT_FDCWD, path, AT_FDCWD, "c", AT_SYMLINK_FOLLOW));
  symlink("b", "s");
  Told("of-symlink", link("s", "t"));
}

static void SymbolicLinks(void) {
  char text[4096] = "";
  Told("make", symlink("to", "s"));
  Say("read=%zd", readlink("s", text, sizeof(text)));
  Say("dangling=%s", Read("s"));
  symlink("s2", "s3");
  symlink("s3", "s2");
  Say("loop=%s", Read("s2"));
  Told("no-follow", open("s", O_RDONLY | O_NOFOLLOW));
  Told("exclusive", open("s", O_CREAT | O_EXCL | O_WRONLY, 0644));
  Told("create", open("s", O_CREAT | O_WRONLY, 0644));
  Say("made=%d", Exists("to"));
  memset(text, 'x', 4095);
  text[4095] = 0;
  Told("long", symlink(text, "long"));
  Say("long=%zd", readlink("long", text, sizeof(text)));
  Told("chown", lchown("s", 7, 8));
  const struct timespec times[2] = {{1, 2}, {3, 4}};
  Told("times", utimensat(AT_FDCWD, "s", times, AT_SYMLINK_NOFOLLOW));
  struct stat info;
  lstat("s", &info);
  Say("uid=%u mtime=%ld.%09ld mode=%o", info.st_uid, info.st_mtim.tv_sec, info.st_mtim.tv_nsec,
      info.st_mode);
}

static void TempFile(void) {
  const int fd = open(".", O_TMPFILE | O_RDWR, 0644);
  if (Told("open", fd) < 0) {
    return;
  }
  Told("write", write(fd, "text", 4));
  Say("links=%lu", Links(fd));
  char path[40];
  sprintf(path, "/proc/self/fd/%d", fd);
  Told("link", linkat(AT_FDCWD, path, AT_FDCWD, "f", AT_SYMLINK_FOLLOW));
  Say("read=%s", Read("f"));
}

static void TryExclusive(void) {
  for (int i = 0; i < 50; ++i) {
    char name[20];
    sprintf(name, "e%d", i);
    const int fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0644);
    const int log = open("wins", O_WRONLY | O_APPEND);
    if (fd >= 0 && write(log, "w", 1) != 1) {
      exit(1);
    }
    close(fd);
    close(log);
  }
}

static void Exclusive(void) {
  Write("wins", "");
  pid_t pids[4];
  for (int i = 0; i < 4; ++i) {
    pids[i] = Fork(TryExclusive, 0);
  }
  for (int i = 0; i < 4; ++i) {
    Join(pids[i]);
  }
  struct stat info;
  stat("wins", &info);
  Say("wins=%ld", info.st_size);
  Told("again", open("wins", O_CREAT | O_EXCL | O_WRONLY, 0644));
}

static int Count(DIR* folder, bool delete) {
  int count = 0;
  for (struct dirent* entry; (entry = readdir(folder)) != NULL;) {
    if (entry->d_name[0] != '.') {
      ++count;
      if (delete &&unlinkat(dirfd(folder), entry->d_name, 0) != 0) {
        Told("unlink", -1);
      }
    }
  }
  return count;
}

static void LargeFolder(void) {
  mkdir("d", 0755);
  for (int i = 0; i < 10000; ++i) {
    char name[80];
    sprintf(name, "d/a-name-that-is-a-little-longer-than-most-%d", i);
    const int fd = open(name, O_CREAT | O_WRONLY, 0644);
    if (fd < 0) {
      Told("create", -1);
      return;
    }
    close(fd);
  }
  DIR* folder = opendir("d");
  Say("count=%d", Count(folder, false));
  rewinddir(folder);
  long place = 0;
  char name[256] = "";
  for (int i = 0; i < 5000; ++i) {
    place = telldir(folder);
    strcpy(name, readdir(folder)->d_name);
  }
  seekdir(folder, 0);
  readdir(folder);
  seekdir(folder, place);
  SayIf("seek", strcmp(readdir(folder)->d_name, name) == 0);
  rewinddir(folder);
  Say("deleted=%d", Count(folder, true));
  closedir(folder);
  Told("rmdir", rmdir("d"));
}

static void Entries(void) {
  Write("file", "");
  mkdir("folder", 0755);
  symlink("x", "symlink");
  mkfifo("fifo", 0644);
  DIR* folder = opendir(".");
  int kinds = 0;
  bool same = true;
  for (struct dirent* entry; (entry = readdir(folder)) != NULL;) {
    struct stat info;
    lstat(entry->d_name, &info);
    same = same && (entry->d_name[0] == '.' || info.st_ino == entry->d_ino);
    kinds += IFTODT(info.st_mode) == entry->d_type;
  }
  Say("kinds=%d inodes=%d", kinds, same);
  struct stat one, two;
  stat("file", &one);
  stat(".", &two);
  SayIf("device-same", one.st_dev == two.st_dev);
  const int fd = open("file", O_RDONLY);
  rename("file", "moved");
  fstat(fd, &two);
  stat("moved", &one);
  SayIf("inode-kept", one.st_ino == two.st_ino);
}

static void LongNames(void) {
  char name[300];
  memset(name, 'n', sizeof(name));
  name[255] = 0;
  Told("255", open(name, O_CREAT | O_WRONLY, 0644));
  name[255] = 'n';
  name[256] = 0;
  Told("256", open(name, O_CREAT | O_WRONLY, 0644));
  Told("bytes", open("\xff\xfe \n\t*?\"\\", O_CREAT | O_WRONLY, 0644));
  Told("utf-8", mkdir("\xc3\xa4\xe2\x82\xac", 0755));
  Told("dot", open(".hidden", O_CREAT | O_WRONLY, 0644));
  memset(name, 'd', 200);
  name[200] = 0;
  int depth = 0;
  for (; depth < 40 && mkdir(name, 0755) == 0 && chdir(name) == 0; ++depth) {
  }
  Say("depth=%d", depth);  // 8000 bytes of path
  while (depth-- > 0 && chdir("..") == 0 && rmdir(name) == 0) {
  }
}

static void NextEvent(int fd) {
  char buffer[4096] __attribute__((aligned(8)));
  const ssize_t size = read(fd, buffer, sizeof(buffer));
  if (size < 0) {
    Told("event", -1);
  }
  for (ssize_t at = 0; at < size;) {
    const struct inotify_event* event = (const void*)(buffer + at);
    Say("%x:%s", event->mask, event->len ? event->name : "");
    at += (ssize_t)(sizeof(*event) + event->len);
  }
}

static void Inotify(void) {
  const int fd = inotify_init1(IN_NONBLOCK);
  Told("watch",
       inotify_add_watch(fd, ".",
                         IN_CREATE | IN_MODIFY | IN_MOVE | IN_DELETE | IN_ATTRIB | IN_CLOSE_WRITE));
  Write("a", "x");
  NextEvent(fd);
  chmod("a", 0600);
  rename("a", "b");
  NextEvent(fd);
  unlink("b");
  mkdir("d", 0755);
  NextEvent(fd);
}

static struct sockaddr_un Address(const char* path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strcpy(address.sun_path, path);
  return address;
}

static void Client(void) {
  const struct sockaddr_un address = Address("socket");
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (connect(fd, (const void*)&address, sizeof(address)) != 0) {
    Told("connect", -1);
  } else if (write(fd, "hello", 5) != 5) {
    Told("send", -1);
  }
}

static void Sockets(void) {
  const struct sockaddr_un address = Address("socket");
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (Told("bind", bind(fd, (const void*)&address, sizeof(address))) < 0) {
    return;
  }
  Told("chmod", chmod("socket", 0666));
  listen(fd, 1);
  const pid_t pid = Fork(Client, 0);
  char text[10] = "";
  const int peer = accept4(fd, NULL, NULL, 0);
  if (read(peer, text, 9) < 0) {
    Told("receive", -1);
  }
  Join(pid);
  Say("text=%s", text);
  Told("again", bind(socket(AF_UNIX, SOCK_STREAM, 0), (const void*)&address, sizeof(address)));
}

static void FifoWriter(void) {
  const int fd = open("fifo", O_WRONLY);
  if (write(fd, "hello", 5) != 5) {
    exit(1);
  }
}

static void Fifos(void) {
  if (Told("make", mkfifo("fifo", 0640)) < 0) {
    return;
  }
  Told("nobody", open("fifo", O_WRONLY | O_NONBLOCK));
  const pid_t pid = Fork(FifoWriter, 0);
  char text[10] = "";
  const int fd = open("fifo", O_RDONLY);
  if (read(fd, text, 9) < 0) {
    Told("read", -1);
  }
  Join(pid);
  Say("text=%s", text);
}

static void Devices(void) {
  if (Told("mknod", mknod("null", S_IFCHR | 0666, makedev(1, 3))) < 0) {
    return;
  }
  struct stat info = {0};
  stat("null", &info);
  Say("number=%u:%u", major(info.st_rdev), minor(info.st_rdev));
  Told("open", open("null", O_RDWR));
  Told("whiteout", mknod("w", S_IFCHR, 0));
}

static void AsUser(void) {
  Told("secret", open("secret", O_RDONLY));
  Told("write", open("public", O_WRONLY));
  Told("read", open("public", O_RDONLY));
  Told("sticky", unlink("tmp/roots"));
  const int fd = open("tmp/mine", O_CREAT | O_WRONLY, 0666);
  Told("create", fd);
  struct stat info = {0};
  fstat(fd, &info);
  Say("owner=%u:%u", info.st_uid, info.st_gid);
  Told("chown", chown("tmp/mine", 0, 0));
  Told("chmod", chmod("public", 0777));
  Told("closed", open("closed/x", O_RDONLY));
  Told("access", access("secret", R_OK));
  Told("unlink", unlink("tmp/mine"));
}

static void Permissions(void) {
  Write("secret", "");
  chmod("secret", 0600);
  Write("public", "");
  mkdir("tmp", 0755);
  chmod("tmp", 01777);
  Write("tmp/roots", "");
  mkdir("closed", 0700);
  Write("closed/x", "");
  Join(Fork(AsUser, 1000));
  mkdir("group", 0755);
  chown("group", 0, 77);
  chmod("group", 02775);
  Write("group/file", "");
  mkdir("group/folder", 0755);
  struct stat info;
  stat("group/file", &info);
  Say("group=%u", info.st_gid);
  stat("group/folder", &info);
  Say("group=%u mode=%o", info.st_gid, info.st_mode & 07777);
}

const struct Check kNames[] = {{"rename-over", RenameOver},
                               {"rename-flags", RenameFlags},
                               {"unlink-open", UnlinkOpen},
                               {"rmdir-open", UnlinkOpenFolder},
                               {"folders", Folders},
                               {"hard-links", HardLinks},
                               {"symlinks", SymbolicLinks},
                               {"tmpfile", TempFile},
                               {"exclusive", Exclusive},
                               {"large-folder", LargeFolder},
                               {"entries", Entries},
                               {"long-names", LongNames},
                               {"inotify", Inotify},
                               {"sockets", Sockets},
                               {"fifos", Fifos},
                               {"devices", Devices},
                               {"permissions", Permissions},
                               {NULL, NULL}};
