// From the network that is there to the one that is wanted: which changes, in which order. Pure.
//
// The kernel does much by itself (an address brings routes, a link that goes down loses them), so
// it is done in phases, and what is there is read again before each.
//
// `before` is what earlier descriptions named. What none ever named is not ours: a bridge that a
// container made, an address that its VRRP daemon took. It stays, unless its name is needed.
#pragma once

#include <vector>

#include "agent/network_types.h"
#include "base/result.h"

namespace bulkhead::agent {

// The description (from CheckNetwork) with the links that are there; lo is always part of it.
// kNotFound names an interface that is missing.
Result<NetworkSettings> Resolve(const Network& network, const std::vector<Link>& links);

// Everything of both. Of links: those of `added` first.
NetworkSettings Union(const NetworkSettings& added, const NetworkSettings& before);

using NetworkChanges = std::vector<NetworkChange>;

// Before that, again and again until nothing is left to do: VLANs that are no longer wanted go,
// those that are missing come, where there is the link that they are on.
NetworkChanges PlanVlans(const NetworkSettings& before, const Network& network,
                         const std::vector<Link>& links);
// Those VLANs of the description that are there.
std::vector<std::pair<int, Interface>> VlansOf(const Network& network,
                                               const std::vector<Link>& links);
// Phase 1: links that are no longer wanted go down, the others get name, MTU, flags and state. Only
// for a new name an interface that is up goes down for a moment.
NetworkChanges PlanLinks(const NetworkSettings& before, const NetworkSettings& wanted,
                         const NetworkState& state);
// Phase 2: rules, neighbours and addresses that were named and are no longer.
NetworkChanges PlanRemovals(const NetworkSettings& before, const NetworkSettings& wanted,
                            const NetworkState& state);
// Phase 3.
NetworkChanges PlanAddresses(const NetworkSettings& wanted, const NetworkState& state);
// Phase 4: routes that were named go, or give way at once to those for the same place; routes on
// the link come before those by way of a gateway; then neighbours and rules.
NetworkChanges PlanRoutes(const NetworkSettings& before, const NetworkSettings& wanted,
                          const NetworkState& state);

}  // namespace bulkhead::agent
