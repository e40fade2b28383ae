// Huge pages: `huge_probe FILE BYTES [WORD]` maps as much of the file ("-": of memory of its own),
// writes the word into each page if there is one, and tells what stands in the first and the last.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const size_t kPage = 2 << 20;

static void NoPage(int number) {
  (void)number;
  static const char told[] = "SIGBUS\n";
  _exit(write(STDOUT_FILENO, told, sizeof told - 1) < 0 ? 1 : 2);
}

static int Failed(const char* call) {
  printf("%s: %s\n", call, strerrorname_np(errno));
  return 2;
}

int main(int count, char** words) {
  if (count < 3) {
    return 3;
  }
  const size_t bytes = strtoul(words[2], NULL, 10);
  const int own = strcmp(words[1], "-") == 0;
  const int file = own ? -1 : open(words[1], O_RDWR | O_CREAT, 0666);
  if (!own && file < 0) {
    return Failed("open");
  }
  char* const memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                            own ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB : MAP_SHARED, file, 0);
  if (memory == MAP_FAILED) {
    return Failed("mmap");
  }
  signal(SIGBUS, NoPage);
  for (size_t at = 0; count > 3 && at < bytes; at += kPage) {
    strcpy(memory + at, words[3]);
  }
  printf("%s %s\n", memory, memory + bytes - kPage);
  return 0;
}
