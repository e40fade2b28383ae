// Memory of the guest that containers share, where engines share a tmpfs or huge pages of the host.
#pragma once

#include <memory>
#include <string>

#include "shim/agent_client.h"

namespace bulkhead::shim {

// Of all containers that hold it; released with the last.
class GuestMemory {
 public:
  static Result<std::shared_ptr<GuestMemory>> Make(std::shared_ptr<AgentClient> agent,
                                                   const std::string& name,
                                                   const MemoryVolume& volume) {
    std::shared_ptr<GuestMemory> memory(new GuestMemory(std::move(agent), name));
    TRY(memory->agent_->ShareMemory(name, volume));  // may have been made in spite of an error
    return memory;
  }
  ~GuestMemory() { (void)agent_->ReleaseMemory(name_); }
  GuestMemory(const GuestMemory&) = delete;
  GuestMemory& operator=(const GuestMemory&) = delete;

  std::string path() const { return "/run/shm/" + name_; }

 private:
  GuestMemory(std::shared_ptr<AgentClient> agent, std::string name)
      : agent_(std::move(agent)), name_(std::move(name)) {}

  const std::shared_ptr<AgentClient> agent_;
  const std::string name_;
};

}  // namespace bulkhead::shim
