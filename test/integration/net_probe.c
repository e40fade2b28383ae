// The network as programs use it, for the tests and bench/network; all words are numbers and
// numeric addresses ("fe80::1%eth0" has its interface).
//
//   serve PORT                    TCP and UDP: echoes. TCP at PORT + 1: counts what comes and
//   tells.
//                                 TCP at PORT + 2: sends until the other side has enough.
//   tcp ADDRESS PORT BYTES COUNT  COUNT connections at once, each of which has BYTES echoed
//   udp ADDRESS PORT BYTES        one datagram that must not be fragmented: echoed, too large, lost
//   push ADDRESS PORT MS          to PORT + 1 for so long: bytes per second that arrived
//   pull ADDRESS PORT MS          from PORT + 2 for so long: bytes per second that arrived
//   latency ADDRESS PORT COUNT    round trips of one byte by TCP, in nanoseconds, a line each
//   frame INTERFACE HEX           one Ethernet frame as it is
#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { kChunk = 128 << 10, kPatience = 20000, kTries = 4 };

typedef union {
  struct sockaddr any;
  struct sockaddr_in v4;
  struct sockaddr_in6 v6;
} Address;

static char buffer[kChunk];

static int64_t Now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static socklen_t Parse(char* text, int port, Address* out) {
  memset(out, 0, sizeof(*out));
  if (inet_pton(AF_INET, text, &out->v4.sin_addr) == 1) {
    out->v4.sin_family = AF_INET;
    out->v4.sin_port = htons((uint16_t)port);
    return sizeof(out->v4);
  }
  char* zone = strchr(text, '%');
  if (zone) {
    *zone = '\0';
    out->v6.sin6_scope_id = if_nametoindex(zone + 1);
  }
  if (inet_pton(AF_INET6, text, &out->v6.sin6_addr) != 1) errx(2, "no address: %s", text);
  out->v6.sin6_family = AF_INET6;
  out->v6.sin6_port = htons((uint16_t)port);
  return sizeof(out->v6);
}

// Of either family, for whoever connects.
static int Bound(int type, int port) {
  const int on = 1, off = 0;
  struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
  int fd = socket(AF_INET6, type, 0);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
  if (bind(fd, (struct sockaddr*)&any, sizeof(any)) != 0) err(1, "bind %d", port);
  if (type == SOCK_STREAM && listen(fd, 1024) != 0) err(1, "listen %d", port);
  return fd;
}

static int Connected(char* address, int port) {
  const int on = 1;
  Address to;
  socklen_t size = Parse(address, port, &to);
  int fd = socket(to.any.sa_family, SOCK_STREAM, 0);
  struct timeval patience = {.tv_sec = kPatience / 1000};
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));  // of connect, too
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  if (connect(fd, &to.any, size) != 0) err(1, "connect");
  return fd;
}

static void WriteAll(int fd, const char* data, size_t size) {
  while (size > 0) {
    ssize_t done = write(fd, data, size);
    if (done <= 0) err(1, "write");
    data += done;
    size -= (size_t)done;
  }
}

static void ReadAll(int fd, char* data, size_t size) {
  while (size > 0) {
    ssize_t done = read(fd, data, size);
    if (done <= 0) errx(1, "read: %s", done == 0 ? "the end" : strerror(errno));
    data += done;
    size -= (size_t)done;
  }
}

static void Converse(int fd, int kind) {
  const int on = 1;
  uint64_t total = 0;
  ssize_t got;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  if (kind == 2) {
    while (write(fd, buffer, sizeof(buffer)) > 0) {
    }
    return;
  }
  while ((got = read(fd, buffer, sizeof(buffer))) > 0) {
    total += (uint64_t)got;
    if (kind == 0) WriteAll(fd, buffer, (size_t)got);
  }
  if (kind == 1) WriteAll(fd, (char*)&total, sizeof(total));
}

static void Serve(int port) {
  enum { kUdp = 3 };
  struct pollfd fds[kUdp + 1];
  for (int i = 0; i < kUdp; ++i) fds[i].fd = Bound(SOCK_STREAM, port + i);
  fds[kUdp].fd = Bound(SOCK_DGRAM, port);
  for (int i = 0; i <= kUdp; ++i) fds[i].events = POLLIN;
  signal(SIGCHLD, SIG_IGN);
  puts("ready");
  fflush(stdout);
  while (poll(fds, kUdp + 1, -1) > 0) {
    for (int i = 0; i < kUdp; ++i) {
      int fd = fds[i].revents ? accept(fds[i].fd, NULL, NULL) : -1;
      if (fd >= 0 && fork() == 0) {
        Converse(fd, i);
        _exit(0);
      }
      if (fd >= 0) close(fd);
    }
    if (fds[kUdp].revents) {
      Address from;
      socklen_t size = sizeof(from);
      ssize_t got = recvfrom(fds[kUdp].fd, buffer, sizeof(buffer), 0, &from.any, &size);
      if (got >= 0) sendto(fds[kUdp].fd, buffer, (size_t)got, 0, &from.any, size);
    }
  }
}

// One process writes what the other reads and compares.
static void Echo(char* address, int port, size_t bytes, int seed) {
  int fd = Connected(address, port);
  pid_t writer = fork();
  for (size_t done = 0; done < bytes;) {
    size_t size = bytes - done < kChunk ? bytes - done : kChunk;
    char expected[kChunk];
    for (size_t i = 0; i < size; ++i)
      expected[i] = (char)((done + i) * 31 + (done >> 9) + (size_t)seed);
    if (writer == 0) {
      WriteAll(fd, expected, size);
    } else {
      ReadAll(fd, buffer, size);
      if (memcmp(buffer, expected, size) != 0) errx(1, "other bytes than were sent");
    }
    done += size;
  }
  if (writer == 0) _exit(0);
  int status = 0;
  waitpid(writer, &status, 0);
  if (status != 0) errx(1, "the writer failed");
}

static void EchoMany(char* address, int port, size_t bytes, int count) {
  for (int i = 0; i < count; ++i) {
    if (fork() == 0) {
      Echo(address, port, bytes, i);
      _exit(0);
    }
  }
  int good = 0, status;
  while (wait(&status) > 0) good += status == 0;
  printf("%d echoed\n", good);
}

static void Datagram(char* address, int port, size_t bytes) {
  const int whole = IP_PMTUDISC_DO, whole6 = IPV6_PMTUDISC_DO, on = 1;
  Address to;
  socklen_t size = Parse(address, port, &to);
  int fd = socket(to.any.sa_family, SOCK_DGRAM, 0);
  if (to.any.sa_family == AF_INET) {
    setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &whole, sizeof(whole));
  } else {
    setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &whole6, sizeof(whole6));
    setsockopt(fd, IPPROTO_IPV6, IPV6_DONTFRAG, &on, sizeof(on));
  }
  if (bytes > sizeof(buffer) || connect(fd, &to.any, size) != 0) err(1, "connect");
  struct pollfd waits = {.fd = fd, .events = POLLIN};
  for (int i = 0; i < kTries; ++i) {
    if (send(fd, buffer, bytes, 0) < 0 && errno == EMSGSIZE) {
      puts("too large");
      return;
    }
    if (poll(&waits, 1, 1000) > 0 && recv(fd, buffer, sizeof(buffer), 0) == (ssize_t)bytes) {
      puts("echoed");
      return;
    }
  }
  puts("lost");
}

static void Push(char* address, int port, int64_t milliseconds) {
  int fd = Connected(address, port + 1);
  uint64_t sent = 0, counted = 0;
  int64_t start = Now();
  while (Now() - start < milliseconds * 1000000) {
    WriteAll(fd, buffer, sizeof(buffer));
    sent += sizeof(buffer);
  }
  shutdown(fd, SHUT_WR);
  ReadAll(fd, (char*)&counted, sizeof(counted));
  if (counted != sent) errx(1, "%lu of %lu bytes arrived", counted, sent);
  printf("%.0f\n", (double)counted * 1e9 / (double)(Now() - start));
}

static void Pull(char* address, int port, int64_t milliseconds) {
  int fd = Connected(address, port + 2);
  uint64_t got = 0;
  int64_t start = Now();
  while (Now() - start < milliseconds * 1000000) {
    ssize_t size = read(fd, buffer, sizeof(buffer));
    if (size <= 0) err(1, "read");
    got += (uint64_t)size;
  }
  printf("%.0f\n", (double)got * 1e9 / (double)(Now() - start));
}

static void Latency(char* address, int port, int count) {
  int fd = Connected(address, port);
  for (int i = 0; i < count; ++i) {
    char byte = (char)i;
    int64_t start = Now();
    WriteAll(fd, &byte, 1);
    ReadAll(fd, &byte, 1);
    printf("%ld\n", Now() - start);
  }
}

static void Frame(const char* interface, const char* hex) {
  size_t size = strlen(hex) / 2;
  for (size_t i = 0; i < size && i < sizeof(buffer); ++i) {
    unsigned byte = 0;
    if (sscanf(hex + 2 * i, "%2x", &byte) != 1) errx(2, "no frame: %s", hex);
    buffer[i] = (char)byte;
  }
  struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(interface)};
  int fd = socket(AF_PACKET, SOCK_RAW, 0);
  if (sendto(fd, buffer, size, 0, (struct sockaddr*)&to, sizeof(to)) != (ssize_t)size) {
    err(1, "send to %s", interface);
  }
}

int main(int argc, char** argv) {
  const char* what = argc > 2 ? argv[1] : "";
  signal(SIGPIPE, SIG_IGN);
  if (argc == 3 && strcmp(what, "serve") == 0) {
    Serve(atoi(argv[2]));
  } else if (argc == 6 && strcmp(what, "tcp") == 0) {
    EchoMany(argv[2], atoi(argv[3]), strtoul(argv[4], NULL, 10), atoi(argv[5]));
  } else if (argc == 5 && strcmp(what, "udp") == 0) {
    Datagram(argv[2], atoi(argv[3]), strtoul(argv[4], NULL, 10));
  } else if (argc == 5 && strcmp(what, "push") == 0) {
    Push(argv[2], atoi(argv[3]), atol(argv[4]));
  } else if (argc == 5 && strcmp(what, "pull") == 0) {
    Pull(argv[2], atoi(argv[3]), atol(argv[4]));
  } else if (argc == 5 && strcmp(what, "latency") == 0) {
    Latency(argv[2], atoi(argv[3]), atoi(argv[4]));
  } else if (argc == 4 && strcmp(what, "frame") == 0) {
    Frame(argv[2], argv[3]);
  } else {
    errx(2, "unknown words: see net_probe.c");
  }
  return 0;
}
