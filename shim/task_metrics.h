// A container's counters as engines expect them: the guest's cgroup v2 figures in the form of the
// host's cgroup version, since ctr, the CRI plugin and dockerd read either by its type.
#pragma once

#include <string>
#include <vector>

#include "google/protobuf/any.pb.h"
#include "proto_gen/agent.pb.h"
#include "shim/network/interface_counters.h"

namespace bulkhead::shim {

enum class CgroupMode { kV1, kV2 };

// v2 only where it is the whole of `root`, as engines decide too; a hybrid host is v1.
CgroupMode HostCgroupMode(const std::string& root = "/sys/fs/cgroup");

// io.containerd.cgroups.v1.Metrics or v2.Metrics. `stats` is the guest's word: its lists are cut,
// its figures cannot overflow. `network` is the host's.
google::protobuf::Any TaskMetrics(const agent::v1::ContainerStatsResponse& stats,
                                  const std::vector<InterfaceCounters>& network, CgroupMode mode);

}  // namespace bulkhead::shim
