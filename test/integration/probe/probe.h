// A probe of what a file system does: each check says one line of words, the same on each system
// that behaves the same. Nothing in it may depend on time, load, or numbers that a kernel hands
// out.
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

struct Check {
  const char* name;
  void (*run)(void);  // in an empty folder, its own process
};

extern const struct Check kNames[];  // names, links, folders
extern const struct Check kBytes[];  // contents and attributes

// A word of the line.
void Say(const char* format, ...) __attribute__((format(printf, 1, 2)));
// `what=ok`, or `what=EEXIST`: of a call's result.
long Told(const char* what, long result);
// `what=yes` or `what=no`.
void SayIf(const char* what, bool is);

int Make(const char* path, const char* text);        // a file, open for reading and writing
void Write(const char* path, const char* text);      // the same, closed
const char* Read(const char* path);                  // up to 99 bytes; a call's error in words
const char* ReadFd(int fd, off_t offset, size_t n);  // the same
bool Exists(const char* path);
// The same in another process; it ends with 0. `user` != 0: as that user, without capabilities.
pid_t Fork(void (*run)(void), uid_t user);
void Join(pid_t pid);
