// load OPERATION FOLDER: does it once and prints the nanoseconds that it took.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { kBytes = 8 << 20, kBlock = 64 << 10, kFiles = 200, kSources = 4 };

static void Require(int is, const char* what) {
  if (!is) {
    perror(what);
    exit(1);
  }
}

static void Write(void) {
  static char block[kBlock];
  memset(block, 'x', kBlock);
  const int fd = open("large", O_CREAT | O_TRUNC | O_WRONLY, 0644);
  for (int at = 0; at < kBytes; at += kBlock) {
    Require(write(fd, block, kBlock) == kBlock, "write");
  }
  Require(fsync(fd) == 0, "fsync");
  close(fd);
}

static void Read(void) {
  static char block[kBlock];
  const int fd = open("large", O_RDONLY);
  for (int at = 0; at < kBytes; at += kBlock) {
    Require(read(fd, block, kBlock) == kBlock, "read");
  }
  close(fd);
}

static void EachFile(const char* operation) {
  struct stat info;
  for (int i = 0; i < kFiles; ++i) {
    char name[20];
    snprintf(name, sizeof(name), "small%d", i);
    if (*operation == 's') {
      Require(stat(name, &info) == 0, "stat");
    } else if (*operation == 'u') {
      Require(unlink(name) == 0, "unlink");
    } else {
      const int fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0644);
      Require(write(fd, name, sizeof(name)) == sizeof(name) && close(fd) == 0, "create");
    }
  }
}

static void Compile(void) {
  for (int i = 0; i < kSources; ++i) {
    char text[200];
    snprintf(text, sizeof(text),
             "printf '#include <stdio.h>\\n#include <stdlib.h>\\nint F%d(int x) { return "
             "printf(\"%%%%d\", abs(x)); }\\n' > p%d.c && gcc-12 -O1 -c -o p%d.o p%d.c",
             i, i, i, i);
    Require(system(text) == 0, "gcc");
  }
}

int main(int count, char** words) {
  Require(count == 3 && chdir(words[2]) == 0, "load OPERATION FOLDER");
  const char* operation = words[1];
  struct timespec start, end;
  clock_gettime(CLOCK_MONOTONIC, &start);
  if (strcmp(operation, "write") == 0) {
    Write();
  } else if (strcmp(operation, "read") == 0) {
    Read();
  } else if (strcmp(operation, "compile") == 0) {
    Compile();
  } else if (strcmp(operation, "nothing") != 0) {
    EachFile(operation);
  }
  clock_gettime(CLOCK_MONOTONIC, &end);
  printf("%ld\n", (end.tv_sec - start.tv_sec) * 1000000000L + end.tv_nsec - start.tv_nsec);
  return 0;
}
