#include "agent/network_wire.h"

namespace bulkhead::agent {
namespace {

Interface FromWire(const v1::Network::Interface& wire) {
  Interface out;
  out.mac = wire.mac();
  out.nic_mac = wire.nic_mac().empty() ? wire.mac() : wire.nic_mac();
  out.name = wire.name();
  out.mtu = wire.mtu();
  out.up = wire.up();
  out.no_arp = wire.no_arp();
  out.accept_ra = wire.accept_ra();
  if (wire.has_vlan()) {
    out.vlan = Vlan{wire.vlan().link(), wire.vlan().id(), wire.vlan().protocol()};
  }
  for (const auto& entry : wire.addresses()) {
    out.addresses.push_back(
        {0, entry.ip(), entry.prefix(), entry.broadcast(), entry.scope(), entry.flags()});
  }
  return out;
}

Route FromWire(const v1::Network::Route& wire) {
  Route out;
  out.family = wire.family();
  out.destination = wire.destination();
  out.prefix = wire.prefix();
  out.gateway = wire.gateway();
  out.source = wire.source();
  out.device = wire.device();
  out.metric = wire.metric();
  out.scope = wire.scope();
  out.table = wire.table();
  out.type = wire.type();
  out.flags = wire.flags();
  out.mtu = wire.mtu();
  return out;
}

Rule FromWire(const v1::Network::Rule& wire) {
  Rule out;
  out.family = wire.family();
  out.priority = wire.priority();
  out.source = wire.source();
  out.source_prefix = wire.source_prefix();
  out.destination = wire.destination();
  out.destination_prefix = wire.destination_prefix();
  out.mark = wire.mark();
  out.mask = wire.mask();
  out.table = wire.table();
  out.input = wire.input();
  out.output = wire.output();
  out.invert = wire.invert();
  return out;
}

}  // namespace

Network FromWire(const v1::Network& network) {
  Network out;
  for (const auto& entry : network.interfaces()) {
    out.interfaces.push_back(FromWire(entry));
  }
  for (const auto& entry : network.routes()) {
    out.routes.push_back(FromWire(entry));
  }
  for (const auto& entry : network.neighbours()) {
    out.neighbours.push_back({entry.ip(), entry.mac(), entry.device(), 0});
  }
  for (const auto& entry : network.rules()) {
    out.rules.push_back(FromWire(entry));
  }
  out.sysctls.insert(network.sysctls().begin(), network.sysctls().end());
  return out;
}

}  // namespace bulkhead::agent
