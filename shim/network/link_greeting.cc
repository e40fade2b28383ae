#include "shim/network/link_greeting.h"

#include <arpa/inet.h>
#include <net/if_arp.h>
#include <netinet/icmp6.h>
#include <netinet/if_ether.h>
#include <netinet/ip6.h>

#include <algorithm>
#include <cstring>

namespace bulkhead::shim {
namespace {

template <typename T>
std::string_view Bytes(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof(value)};
}

template <typename T>
std::optional<T> Take(std::string_view& bytes) {
  T value{};
  if (bytes.size() < sizeof(value)) {
    return std::nullopt;
  }
  std::memcpy(&value, bytes.data(), sizeof(value));
  bytes.remove_prefix(sizeof(value));
  return value;
}

ether_header EthernetHeader(const hypervisor::MacAddress& from, uint16_t type) {
  ether_header header{};
  std::fill(std::begin(header.ether_dhost), std::end(header.ether_dhost), 0xff);
  std::copy(from.begin(), from.end(), std::begin(header.ether_shost));
  header.ether_type = htons(type);
  return header;
}

// RFC 1071; the length is even.
uint16_t Checksum(std::string_view bytes) {
  uint32_t sum = 0;
  while (const auto word = Take<uint16_t>(bytes)) {
    sum += *word;
  }
  while (sum >> 16U != 0) {
    sum = (sum & 0xffffU) + (sum >> 16U);
  }
  return static_cast<uint16_t>(~sum);
}

}  // namespace

std::string ArpQuestion(const hypervisor::MacAddress& mac, in_addr ours, in_addr target) {
  ether_arp question{};
  question.arp_hrd = htons(ARPHRD_ETHER);
  question.arp_pro = htons(ETHERTYPE_IP);
  question.arp_hln = ETH_ALEN;
  question.arp_pln = sizeof(in_addr);
  question.arp_op = htons(ARPOP_REQUEST);
  std::copy(mac.begin(), mac.end(), std::begin(question.arp_sha));
  std::memcpy(question.arp_spa, &ours, sizeof(ours));
  std::memcpy(question.arp_tpa, &target, sizeof(target));
  std::string frame(Bytes(EthernetHeader(mac, ETHERTYPE_ARP)));
  return frame.append(Bytes(question));
}

std::string NeighbourQuestion(const hypervisor::MacAddress& mac, const in6_addr& ours,
                              const in6_addr& target) {
  nd_neighbor_solicit question{};
  question.nd_ns_type = ND_NEIGHBOR_SOLICIT;
  question.nd_ns_target = target;
  std::string option("\x01\x01", 2);  // our own link-layer address, of 8 bytes altogether
  option.append(mac.begin(), mac.end());
  ip6_hdr header{};
  header.ip6_vfc = 6U << 4U;
  header.ip6_plen = htons(static_cast<uint16_t>(sizeof(question) + option.size()));
  header.ip6_nxt = IPPROTO_ICMPV6;
  header.ip6_hlim = 255;
  header.ip6_src = ours;
  ::inet_pton(AF_INET6, "ff02::1:ff00:0", &header.ip6_dst);  // the target's solicited nodes
  std::copy(std::begin(target.s6_addr) + 13, std::end(target.s6_addr),
            std::begin(header.ip6_dst.s6_addr) + 13);
  std::string pseudo(Bytes(header.ip6_src));
  pseudo.append(Bytes(header.ip6_dst)).append("\0\0", 2).append(Bytes(header.ip6_plen));
  pseudo.append("\0\0\0\x3a", 4);
  question.nd_ns_cksum = Checksum(pseudo.append(Bytes(question)).append(option));
  std::string frame(Bytes(EthernetHeader(mac, ETHERTYPE_IPV6)));
  return frame.append(Bytes(header)).append(Bytes(question)).append(option);
}

std::optional<LinkAnswer> ReadAnswer(std::string_view frame) {
  const auto ethernet = Take<ether_header>(frame);
  if (!ethernet) {
    return std::nullopt;
  }
  if (ethernet->ether_type == htons(ETHERTYPE_ARP)) {
    const auto answer = Take<ether_arp>(frame);
    return answer && answer->arp_op == htons(ARPOP_REPLY) ? std::optional(LinkAnswer::kArp)
                                                          : std::nullopt;
  }
  const auto header = Take<ip6_hdr>(frame);
  const auto answer = Take<icmp6_hdr>(frame);
  const bool neighbour = ethernet->ether_type == htons(ETHERTYPE_IPV6) && header && answer &&
                         header->ip6_nxt == IPPROTO_ICMPV6 &&
                         answer->icmp6_type == ND_NEIGHBOR_ADVERT;
  return neighbour ? std::optional(LinkAnswer::kNeighbour) : std::nullopt;
}

}  // namespace bulkhead::shim
