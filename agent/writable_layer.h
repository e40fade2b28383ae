// Where a container writes when its root file system is not to change: an overlay over it, whose
// upper layer is on a disk of the VM or in the guest's memory.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "oci/spec.h"

namespace bulkhead::agent {

// The same as WritableLayer of agent.proto.
struct UpperRequest {
  std::string drive;
  uint64_t memory_bytes = 0;
  std::vector<std::string> folders;
};

// What was written is gone with it.
class WritableLayer {
 public:
  // Over spec.root.path, which becomes that of the whole. The folders become mounts of the spec, in
  // place of those it has there.
  static Result<WritableLayer> Create(const std::string& id, const UpperRequest& request,
                                      oci::Spec& spec);

  WritableLayer() = default;
  WritableLayer(WritableLayer&& other) noexcept
      : folder_(std::exchange(other.folder_, {})), drive_(std::move(other.drive_)) {}
  WritableLayer& operator=(WritableLayer&& other) noexcept;
  ~WritableLayer() { Unmount(); }

  void Unmount();

 private:
  Status Mount(const UpperRequest& request, oci::Spec& spec);
  Status MountMemory(uint64_t size) const;
  std::string store() const { return drive_.empty() ? folder_ + "/memory" : drive_; }

  std::string folder_;  // empty: there is none
  std::string drive_;
};

}  // namespace bulkhead::agent
