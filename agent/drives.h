// Block devices of the VM that hold file systems for a container.
#pragma once

#include <chrono>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace bulkhead::agent {

// The same as Drive of agent.proto.
struct Drive {
  std::string serial;
  std::string filesystem;
  std::vector<std::string> options;
  std::string mount_point;
};

// Mounted drives; the destructor unmounts them, the last one first.
class DriveMounts {
 public:
  // Waits for each device: one that was plugged in just now takes a while.
  static Result<DriveMounts> Create(const std::vector<Drive>& drives,
                                    std::chrono::milliseconds timeout = std::chrono::seconds(10));

  DriveMounts() = default;
  DriveMounts(DriveMounts&& other) noexcept : mounted_(std::exchange(other.mounted_, {})) {}
  DriveMounts& operator=(DriveMounts&& other) noexcept;
  ~DriveMounts() { Unmount(); }

  // Returns when the devices are free (bounded), so that the host may pull them.
  void Unmount();

 private:
  struct Entry {
    std::string device;  // "/dev/vda"
    std::string mount_point;
    bool made_folder;
  };
  Status Mount(const Drive& drive, std::chrono::milliseconds timeout);

  std::vector<Entry> mounted_;
};

// The device in `sys_block` ("/sys/block") whose serial is this: its name. kNotFound if none is.
Result<std::string> FindBlockDevice(const std::string& sys_block, const std::string& serial);

}  // namespace bulkhead::agent
