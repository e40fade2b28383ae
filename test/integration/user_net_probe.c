/* In a container: asks servers, is one, and sends what only a hostile guest would send. */
#include <arpa/inet.h>
#include <errno.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/ip.h>
#include <netinet/tcp.h>
#include <netpacket/packet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PATIENCE_MS = 3000, MAX_PORTS = 16 };

static int fail(const char* what) {
  printf("error: %s: %s\n", what, strerror(errno));
  return 1;
}

static struct sockaddr_storage address_of(const char* host, int port, socklen_t* size) {
  struct sockaddr_storage address = {0};
  struct sockaddr_in* ip4 = (struct sockaddr_in*)&address;
  struct sockaddr_in6* ip6 = (struct sockaddr_in6*)&address;
  if (inet_pton(AF_INET, host, &ip4->sin_addr) == 1) {
    ip4->sin_family = AF_INET;
    ip4->sin_port = htons(port);
    *size = sizeof(*ip4);
  } else {
    inet_pton(AF_INET6, host, &ip6->sin6_addr);
    ip6->sin6_family = AF_INET6;
    ip6->sin6_port = htons(port);
    *size = sizeof(*ip6);
  }
  return address;
}

/* One question and its answer. */
/* `source`: the port that it is asked from; 0: any. */
static int ask(int type, const char* host, int port, const char* text, int source) {
  socklen_t size = 0;
  struct sockaddr_storage to = address_of(host, port, &size);
  int fd = socket(to.ss_family, type, 0);
  struct timeval patience = {PATIENCE_MS / 1000, 0};
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  struct sockaddr_in from = {.sin_family = AF_INET, .sin_port = htons(source)};
  if (source != 0 && bind(fd, (struct sockaddr*)&from, sizeof(from)) != 0) {
    return fail("bind");
  }
  if (connect(fd, (struct sockaddr*)&to, size) != 0) {
    return fail("connect");
  }
  if (write(fd, text, strlen(text)) < 0) {
    return fail("write");
  }
  char answer[4096];
  ssize_t length = read(fd, answer, sizeof(answer) - 1);
  if (length <= 0) {
    return fail("read");
  }
  answer[length] = '\0';
  printf("answer: %s\n", answer);
  return 0;
}

/* Answers whoever asks, on TCP and UDP, at each port. */
static int serve(int count, char** ports) {
  struct pollfd polled[2 * MAX_PORTS];
  for (int i = 0; i < 2 * count; ++i) {
    struct sockaddr_in6 at = {.sin6_family = AF_INET6, .sin6_port = htons(atoi(ports[i / 2]))};
    int fd = socket(AF_INET6, i % 2 == 0 ? SOCK_STREAM : SOCK_DGRAM, 0);
    if (bind(fd, (struct sockaddr*)&at, sizeof(at)) != 0 || (i % 2 == 0 && listen(fd, 8) != 0)) {
      return fail("bind");
    }
    polled[i] = (struct pollfd){fd, POLLIN, 0};
  }
  printf("ready\n");
  fflush(stdout);
  while (poll(polled, 2 * count, -1) > 0) {
    for (int i = 0; i < 2 * count; ++i) {
      char text[256], answer[320];
      struct sockaddr_storage from;
      socklen_t size = sizeof(from);
      if (polled[i].revents == 0) {
        continue;
      }
      int fd = i % 2 == 0 ? accept(polled[i].fd, NULL, NULL) : polled[i].fd;
      ssize_t length =
          recvfrom(fd, text, sizeof(text) - 1, 0, (struct sockaddr*)&from, &size);
      text[length > 0 ? length : 0] = '\0';
      int answered = snprintf(answer, sizeof(answer), "guest %s %s", ports[i / 2], text);
      if (i % 2 == 0) {
        (void)!write(fd, answer, answered);
        close(fd);
      } else {
        sendto(fd, answer, answered, 0, (struct sockaddr*)&from, size);
      }
    }
  }
  return fail("poll");
}

static unsigned short checksum(const void* bytes, size_t size, unsigned long sum) {
  const unsigned short* words = bytes;
  for (size_t i = 0; i < size / 2; ++i) {
    sum += words[i];
  }
  while (sum >> 16) {
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return ~sum;
}

/* The station that answers for the gateway. */
static int gateway(unsigned char* mac) {
  char line[256], ip[64], hardware[64];
  FILE* table = fopen("/proc/net/arp", "r");
  while (table != NULL && fgets(line, sizeof(line), table) != NULL) {
    if (sscanf(line, "%63s %*s %*s %63s", ip, hardware) == 2 && strcmp(ip, "10.0.2.2") == 0) {
      return sscanf(hardware, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", mac, mac + 1, mac + 2, mac + 3,
                    mac + 4, mac + 5) == 6;
    }
  }
  return 0;
}

/* The begin of a connection to an address that no kernel would send to. */
static int forge(const char* host, int port) {
  struct {
    struct ether_header ethernet;
    struct iphdr ip;
    struct tcphdr tcp;
  } __attribute__((packed)) frame = {0}, answer;
  int fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_IP));
  struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex("eth0")};
  const unsigned char ours[] = {0x02, 0x62, 0x75, 0x6c, 0x6b, 0x01};
  if (fd < 0 || !gateway(frame.ethernet.ether_dhost)) {
    return fail("forge");
  }
  memcpy(frame.ethernet.ether_shost, ours, sizeof(ours));
  frame.ethernet.ether_type = htons(ETH_P_IP);
  frame.ip = (struct iphdr){.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_TCP,
                            .tot_len = htons(sizeof(frame.ip) + sizeof(frame.tcp))};
  inet_pton(AF_INET, "10.0.2.15", &frame.ip.saddr);
  inet_pton(AF_INET, host, &frame.ip.daddr);
  frame.ip.check = checksum(&frame.ip, sizeof(frame.ip), 0);
  frame.tcp = (struct tcphdr){.source = htons(40000 + port % 1000), .dest = htons(port),
                              .seq = htonl(1), .doff = 5, .syn = 1, .window = htons(64000)};
  unsigned long pseudo = htons(IPPROTO_TCP) + htons(sizeof(frame.tcp));
  unsigned short addresses[4];
  memcpy(addresses, &frame.ip.saddr, sizeof(addresses));
  for (int i = 0; i < 4; ++i) {
    pseudo += addresses[i];
  }
  frame.tcp.check = checksum(&frame.tcp, sizeof(frame.tcp), pseudo);
  if (sendto(fd, &frame, sizeof(frame), 0, (struct sockaddr*)&to, sizeof(to)) < 0) {
    return fail("sendto");
  }
  struct pollfd polled = {fd, POLLIN, 0};
  while (poll(&polled, 1, PATIENCE_MS) > 0) {
    ssize_t size = read(fd, &answer, sizeof(answer));
    if (size == sizeof(answer) && answer.ip.protocol == IPPROTO_TCP &&
        answer.tcp.source == frame.tcp.dest && answer.ip.saddr == frame.ip.daddr) {
      printf("%s\n", answer.tcp.rst ? "refused" : "connected");
      return 0;
    }
  }
  printf("silence\n");
  return 0;
}

int main(int argc, char** argv) {
  if (argc > 4 && strcmp(argv[1], "tcp") == 0) {
    return ask(SOCK_STREAM, argv[2], atoi(argv[3]), argv[4], 0);
  }
  if (argc > 4 && strcmp(argv[1], "udp") == 0) {
    return ask(SOCK_DGRAM, argv[2], atoi(argv[3]), argv[4], argc > 5 ? atoi(argv[5]) : 0);
  }
  if (argc > 2 && argc < 2 + MAX_PORTS && strcmp(argv[1], "serve") == 0) {
    return serve(argc - 2, argv + 2);
  }
  if (argc > 3 && strcmp(argv[1], "forge") == 0) {
    return forge(argv[2], atoi(argv[3]));
  }
  return 2;
}
