// The linux.resources object of config.json.
#include "oci/spec_readers.h"
#include "oci/words.h"

namespace bulkhead::oci {
namespace {

constexpr uint16_t kMinWeight = 10;
constexpr uint16_t kMaxWeight = 1000;
constexpr char kNoKernelMemory[] = "the memory limit counts the kernel's, too";
constexpr char kNoLeafWeight[] = "leaf weights (cgroup v2 has none) are";

void CheckWeight(const Fields& fields, uint16_t weight) {
  if (weight != 0 && (weight < kMinWeight || weight > kMaxWeight)) {
    fields.Fail("weight", "expected 10 to 1000");
  }
}

}  // namespace

void ReadFields(const Fields& fields, DeviceRule& out) {
  fields.Require("allow", out.allow);
  fields.Get("type", out.type);
  fields.Get("major", out.major);
  fields.Get("minor", out.minor);
  fields.Get("access", out.access);
  if (out.type.empty()) {
    out.type = "a";
  }
  if (out.type != "a" && out.type != "b" && out.type != "c") {
    fields.Fail("type", "expected a, b or c");
  }
  if (out.access.find_first_not_of("rwm") != std::string::npos) {
    fields.Fail("access", "expected letters of \"rwm\"");
  }
  if (out.access.empty()) {
    out.access = "rwm";
  }
}

void ReadFields(const Fields& fields, CpuResources& out) {
  fields.Get("shares", out.shares);
  fields.Get("quota", out.quota);
  fields.Get("period", out.period);
  fields.Get("cpus", out.cpus);
  fields.Get("mems", out.mems);
  fields.Refuse("realtimeRuntime", "real-time CPU limits (cgroup v2 has none) are");
  fields.Refuse("realtimePeriod", "real-time CPU limits (cgroup v2 has none) are");
  fields.Get("burst", out.burst);
  fields.Get("idle", out.idle);
  if (out.idle.value_or(0) != 0 && out.idle != 1) {
    fields.Fail("idle", "expected 0 or 1");
  }
  if (out.idle == 1 && out.shares.value_or(0) != 0) {
    fields.Fail("shares", "has no place beside idle");
  }
}

void ReadFields(const Fields& fields, MemoryResources& out) {
  fields.Get("limit", out.limit);
  fields.Get("reservation", out.reservation);
  fields.Get("swap", out.swap);
  fields.Get("checkBeforeUpdate", out.check_before_update);
  fields.GetWithoutEffect<bool>("useHierarchy", "");  // cgroup v2 always does
  fields.GetWithoutEffect<int64_t>("kernel", kNoKernelMemory);
  fields.GetWithoutEffect<int64_t>("kernelTCP", kNoKernelMemory);
  fields.GetWithoutEffect<uint64_t>("swappiness", "cgroup v2 has none");
  fields.Refuse("disableOOMKiller", "disabling the OOM killer (cgroup v2 cannot) is");
}

struct PidsResources {
  std::optional<int64_t> limit;
};

void ReadFields(const Fields& fields, PidsResources& out) { fields.Get("limit", out.limit); }

void ReadFields(const Fields& fields, HugepageLimit& out) {
  fields.Require("pageSize", out.page_size);
  fields.Require("limit", out.limit);
  fields.Check("pageSize", PageSizeBytes(out.page_size));
}

void ReadFields(const Fields& fields, WeightDevice& out) {
  fields.Require("major", out.major);
  fields.Require("minor", out.minor);
  fields.Refuse("leafWeight", kNoLeafWeight);  // one of the two must be there
  fields.Require("weight", out.weight);
  CheckWeight(fields, out.weight);
}

void ReadFields(const Fields& fields, ThrottleDevice& out) {
  fields.Require("major", out.major);
  fields.Require("minor", out.minor);
  fields.Require("rate", out.rate);
}

void ReadFields(const Fields& fields, BlockIo& out) {
  fields.Get("weight", out.weight);
  CheckWeight(fields, out.weight);
  fields.Refuse("leafWeight", kNoLeafWeight);
  fields.Get("weightDevice", out.weight_devices);
  fields.Get("throttleReadBpsDevice", out.read_bps);
  fields.Get("throttleWriteBpsDevice", out.write_bps);
  fields.Get("throttleReadIOPSDevice", out.read_iops);
  fields.Get("throttleWriteIOPSDevice", out.write_iops);
}

void ReadFields(const Fields& fields, Resources& out) {
  fields.Get("devices", out.devices);
  fields.Get("cpu", out.cpu);
  fields.Get("memory", out.memory);
  PidsResources pids;
  fields.Get("pids", pids);
  out.pids_limit = pids.limit;
  fields.Get("unified", out.unified);
  fields.Get("blockIO", out.block_io);
  fields.Get("hugepageLimits", out.hugepage_limits);
  fields.Refuse("network", "network classes and priorities (cgroup v2 has none) are");
  fields.Refuse("rdma", "RDMA limits (the guest has no such device) are");
}

}  // namespace bulkhead::oci
