// Frames by which a link is asked whether it is alive, and the answers: ARP for IPv4, neighbour
// discovery for IPv6.
#pragma once

#include <netinet/in.h>

#include <optional>
#include <string>
#include <string_view>

#include "hypervisor/nic.h"

namespace bulkhead::shim {

// "Who has `target`?", of the station `mac` with the address `ours`.
std::string ArpQuestion(const hypervisor::MacAddress& mac, in_addr ours, in_addr target);
std::string NeighbourQuestion(const hypervisor::MacAddress& mac, const in6_addr& ours,
                              const in6_addr& target);

enum class LinkAnswer { kArp, kNeighbour };
// nullopt: it is neither.
std::optional<LinkAnswer> ReadAnswer(std::string_view frame);

}  // namespace bulkhead::shim
