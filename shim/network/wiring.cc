#include "shim/network/wiring.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>

namespace bulkhead::shim {
namespace {

using WireInterface = inspection::v1::Network::Interface;

std::string AddressText(const agent::v1::Network::Address& address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const int family = address.ip().size() == sizeof(in_addr) ? AF_INET : AF_INET6;
  ::inet_ntop(family, address.ip().data(), text.data(), text.size());
  return fmt::format("{}/{}", text.data(), address.prefix());
}

std::string MacText(const std::string& bytes) {
  hypervisor::MacAddress mac{};
  std::copy_n(bytes.begin(), std::min(bytes.size(), mac.size()), mac.begin());
  return hypervisor::FormatMac(mac);
}

void FillNic(const CarriedInterface& carried, WireInterface& out) {
  out.set_kind(carried.interface.kind);
  auto& nic = *out.mutable_nic();
  nic.set_id(carried.nic);
  nic.set_mac(hypervisor::FormatMac(carried.interface.nic_mac));
  nic.set_tap(carried.tap);
  nic.set_model(carried.model);
  nic.set_queues(static_cast<uint32_t>(carried.queues));
  nic.set_vhost(carried.vhost);
  nic.set_plugged(carried.plugged);
}

}  // namespace

inspection::v1::Network DescribeWiring(const agent::v1::Network& told,
                                       const std::vector<CarriedInterface>& carried) {
  inspection::v1::Network out;
  for (const auto& interface : told.interfaces()) {
    WireInterface& entry = *out.add_interfaces();
    entry.set_name(interface.name());
    entry.set_mac(MacText(interface.mac()));
    entry.set_mtu(interface.mtu());
    entry.set_up(interface.up());
    for (const auto& address : interface.addresses()) {
      entry.add_addresses(AddressText(address));
    }
    const auto link =
        std::find_if(carried.begin(), carried.end(), [&](const CarriedInterface& candidate) {
          return candidate.interface.name == interface.name();
        });
    if (interface.has_vlan()) {
      entry.set_kind("vlan");
      entry.set_vlan_link(interface.vlan().link());
      entry.set_vlan_id(interface.vlan().id());
    } else if (link != carried.end()) {
      FillNic(*link, entry);
    }
  }
  return out;
}

}  // namespace bulkhead::shim
