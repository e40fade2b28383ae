// What programs do with files, one line for each thing that works as on any disk: "ok NAME", else
// "NAME: error". Run in a folder of the container's root.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define CHECK(what) \
  if (!(what)) return errno == 0 ? EPROTO : errno

static int Put(const char* path, const char* text) {
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && close(fd) == 0;
}

static int Holds(const char* path, const char* text) {
  char buffer[100] = "";
  int fd = open(path, O_RDONLY);
  int same = fd >= 0 && read(fd, buffer, sizeof(buffer) - 1) >= 0 && strcmp(buffer, text) == 0;
  close(fd);
  return same;
}

static int SharedMapping(void) {
  int fd = open("map", O_RDWR | O_CREAT, 0600);
  CHECK(fd >= 0 && ftruncate(fd, 8192) == 0);
  char* one = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  char* two = mmap(NULL, 8192, PROT_READ, MAP_SHARED, fd, 0);
  CHECK(one != MAP_FAILED && two != MAP_FAILED);
  strcpy(one + 4096, "seen");
  CHECK(strcmp(two + 4096, "seen") == 0 && msync(one, 8192, MS_SYNC) == 0);
  char buffer[5] = "";
  CHECK(pread(fd, buffer, 4, 4096) == 4 && strcmp(buffer, "seen") == 0);
  return 0;
}

// A file of the image is mapped, then written to: the writer has a copy by then.
static int MappingOfTheImages(void) {
  int fd = open("/etc/group", O_RDWR);
  CHECK(fd >= 0);
  char* map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  CHECK(map != MAP_FAILED);
  map[0] = 'R';
  char first = 0;
  CHECK(pread(fd, &first, 1, 0) == 1 && first == 'R');
  return 0;
}

static int RenameOver(void) {
  CHECK(Put("a", "new") && Put("b", "old") && rename("a", "b") == 0 && Holds("b", "new"));
  CHECK(access("a", F_OK) == -1 && Put("c", "x"));
  CHECK(renameat2(AT_FDCWD, "b", AT_FDCWD, "c", RENAME_NOREPLACE) == -1 && errno == EEXIST);
  CHECK(renameat2(AT_FDCWD, "b", AT_FDCWD, "c", RENAME_EXCHANGE) == 0 && Holds("c", "new"));
  return 0;
}

static int RenameFolderOfTheImage(void) {
  CHECK(rename("/home", "/house") == 0 && access("/house/alice", F_OK) == 0);
  CHECK(access("/home", F_OK) == -1 && mkdir("/home", 0755) == 0 && rmdir("/home") == 0);
  CHECK(rename("/house", "/home") == 0 && access("/home/alice", F_OK) == 0);
  return 0;
}

static int HardLinks(void) {
  struct stat one, two;
  CHECK(Put("link1", "x") && link("link1", "link2") == 0 && Put("link2", "both"));
  CHECK(Holds("link1", "both") && stat("link1", &one) == 0 && stat("link2", &two) == 0);
  CHECK(one.st_ino == two.st_ino && one.st_dev == two.st_dev && one.st_nlink == 2);
  CHECK(link("/etc/passwd", "passwd") == 0 && unlink("passwd") == 0);
  return 0;
}

static int SpecialFiles(void) {
  struct stat info;
  CHECK(mkfifo("fifo", 0620) == 0 && mknod("null", S_IFCHR | 0666, 0x103) == 0);
  CHECK(stat("fifo", &info) == 0 && S_ISFIFO(info.st_mode));
  CHECK(stat("null", &info) == 0 && S_ISCHR(info.st_mode) && info.st_rdev == 0x103);
  CHECK(symlink("../nowhere", "dangling") == 0 && access("dangling", F_OK) == -1);
  return 0;
}

static int OwnersAndModes(void) {
  struct stat info;
  CHECK(Put("owned", "") && chown("owned", 1000, 29) == 0 && chmod("owned", 06750) == 0);
  CHECK(stat("owned", &info) == 0 && info.st_uid == 1000 && info.st_gid == 29);
  CHECK((info.st_mode & 07777) == 06750);
  CHECK(chown("/bin/busybox", 1000, 1000) == 0 && stat("/bin/busybox", &info) == 0);
  CHECK(info.st_uid == 1000 && info.st_size > 100000);
  return 0;
}

static int Locks(void) {
  int one = open("lock", O_RDWR | O_CREAT, 0600), two = open("lock", O_RDWR);
  CHECK(one >= 0 && two >= 0 && flock(one, LOCK_EX) == 0);
  CHECK(flock(two, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK);
  return 0;
}

static int Space(void) {
  int fd = open("space", O_RDWR | O_CREAT, 0600);
  struct stat info;
  CHECK(fallocate(fd, 0, 0, 1 << 20) == 0 && fstat(fd, &info) == 0 && info.st_blocks >= 2048);
  CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 20) == 0);
  CHECK(fstat(fd, &info) == 0 && info.st_blocks < 100 && fsync(fd) == 0);
  return 0;
}

static int NamelessFile(void) {
  int fd = open(".", O_TMPFILE | O_RDWR, 0600);
  CHECK(fd >= 0 && write(fd, "x", 1) == 1);
  return 0;
}

static int DeletedWhileOpen(void) {
  char buffer[4] = "";
  CHECK(Put("gone", "abc"));
  int fd = open("gone", O_RDWR);
  CHECK(fd >= 0 && unlink("gone") == 0 && pread(fd, buffer, 3, 0) == 3);
  CHECK(strcmp(buffer, "abc") == 0 && write(fd, "d", 1) == 1);
  return 0;
}

static int SecurityAttributes(void) {
  CHECK(Put("t", "") && setxattr("t", "security.test", "v", 1, 0) == 0);
  return 0;
}

static int UserAttributes(void) {
  char value[4] = "";
  CHECK(Put("u", "") && setxattr("u", "user.test", "v", 1, 0) == 0);
  CHECK(getxattr("u", "user.test", value, 3) == 1 && value[0] == 'v');
  return 0;
}

int main(void) {
  const struct {
    const char* name;
    int (*run)(void);
  } checks[] = {{"shared mapping", SharedMapping},
                {"mapping of the image's", MappingOfTheImages},
                {"rename over", RenameOver},
                {"rename a folder of the image", RenameFolderOfTheImage},
                {"hard links", HardLinks},
                {"special files", SpecialFiles},
                {"owners and modes", OwnersAndModes},
                {"locks", Locks},
                {"space", Space},
                {"deleted while open", DeletedWhileOpen},
                {"security attributes", SecurityAttributes},
                {"user attributes", UserAttributes},
                {"nameless file", NamelessFile}};
  for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); ++i) {
    errno = 0;
    int error = checks[i].run();
    printf(error == 0 ? "ok %s\n" : "%s: %s\n", checks[i].name, strerror(error));
  }
  return 0;
}
