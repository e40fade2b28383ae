#include <dirent.h>
#include <ftw.h>
#include <grp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "probe.h"

void Say(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  printf(" ");
  vprintf(format, arguments);
  va_end(arguments);
  fflush(stdout);
}

long Told(const char* what, long result) {
  if (result < 0) {
    Say("%s=%s", what, strerrorname_np(errno));
  } else {
    Say("%s=ok", what);
  }
  return result;
}

void SayIf(const char* what, bool is) { Say("%s=%s", what, is ? "yes" : "no"); }

int Make(const char* path, const char* text) {
  const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text)) {
    Told(path, -1);
    exit(1);
  }
  return fd;
}

void Write(const char* path, const char* text) { close(Make(path, text)); }

const char* ReadFd(int fd, off_t offset, size_t n) {
  static char texts[4][100];  // several in one call
  static int next;
  char* text = texts[next++ % 4];
  const ssize_t got = pread(fd, text, n < 99 ? n : 99, offset);
  text[got < 0 ? 0 : got] = 0;
  return got < 0 ? strerrorname_np(errno) : text;
}

const char* Read(const char* path) {
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return strerrorname_np(errno);
  }
  const char* text = ReadFd(fd, 0, 99);
  close(fd);
  return text;
}

bool Exists(const char* path) {
  struct stat info;
  return lstat(path, &info) == 0;
}

pid_t Fork(void (*run)(void), uid_t user) {
  fflush(stdout);
  const pid_t pid = fork();
  if (pid == 0) {
    alarm(300);
    if (user != 0 && (setgroups(0, NULL) || setgid(user) || setuid(user))) {
      Told("become", -1);
    }
    run();
    exit(0);
  }
  return pid;
}

void Join(pid_t pid) {
  int status = 0;
  waitpid(pid, &status, 0);
  if (WIFSIGNALED(status)) {
    Say("killed=%s", sigabbrev_np(WTERMSIG(status)));
  } else if (WEXITSTATUS(status) != 0) {
    Say("exit=%d", WEXITSTATUS(status));
  }
}

static int RemoveOne(const char* path, const struct stat* info, int kind, struct FTW* where) {
  (void)info, (void)kind, (void)where;
  return remove(path);
}

static void RunAll(const struct Check* check, const char* wanted) {
  for (; check->name != NULL; ++check) {
    const bool all_but = wanted != NULL && wanted[0] == '!';
    if (wanted != NULL && (strcmp(wanted + all_but, check->name) == 0) == all_but) {
      continue;
    }
    if (mkdir(check->name, 0755) != 0 || chdir(check->name) != 0) {
      printf("%s: cannot begin: %s\n", check->name, strerror(errno));
      continue;
    }
    printf("%s:", check->name);
    Join(Fork(check->run, 0));
    if (chdir("..") != 0) {
      exit(1);
    }
    nftw(check->name, RemoveOne, 20, FTW_DEPTH | FTW_PHYS);
    printf("%s\n", Exists(check->name) ? " left=yes" : "");
  }
}

// probe connect SOCKET: what it sends.
static int Connect(const char* path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  char text[100] = "";
  if (connect(fd, (const void*)&address, sizeof(address)) != 0 || read(fd, text, 99) < 0) {
    puts(strerrorname_np(errno));
    return 1;
  }
  puts(text);
  return 0;
}

// probe lock FILE, probe hold FILE: takes its lock; keeps it until it is killed.
static int Lock(const char* path, bool hold) {
  puts(flock(open(path, O_RDWR), LOCK_EX | LOCK_NB) == 0 ? "held" : strerrorname_np(errno));
  fflush(stdout);
  return hold ? pause() : 0;
}

// probe watch FILE, probe poke FILE: maps it; waits for the other's byte, or writes it.
static int Share(const char* path, bool watch) {
  volatile char* byte = mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, open(path, O_RDWR), 0);
  if (byte == MAP_FAILED) {
    puts(strerrorname_np(errno));
    return 1;
  }
  const char before = *byte;
  puts("mapped");
  fflush(stdout);
  for (int tries = 0; watch && *byte == before && tries < 500; ++tries) {
    usleep(10000);
  }
  if (!watch) {
    *byte = before + 1;
    return pause();  // it is in memory alone
  }
  puts(*byte == before ? "the same" : "changed");
  return 0;
}

// probe FOLDER [CHECK | !CHECK]: one line for each check, for one, or for all but one.
int main(int count, char** words) {
  if (count == 3 && strcmp(words[1], "connect") == 0) {
    return Connect(words[2]);
  }
  if (count == 3 && (strcmp(words[1], "lock") == 0 || strcmp(words[1], "hold") == 0)) {
    return Lock(words[2], words[1][0] == 'h');
  }
  if (count == 3 && (strcmp(words[1], "watch") == 0 || strcmp(words[1], "poke") == 0)) {
    return Share(words[2], words[1][0] == 'w');
  }
  if (count < 2 || chdir(words[1]) != 0) {
    perror("probe: FOLDER");
    return 2;
  }
  umask(022);
  RunAll(kNames, words[2]);
  RunAll(kBytes, words[2]);
  return 0;
}
