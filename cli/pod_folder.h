// A pod's folders: state (`<state_dir>/pods/NAME`) and data (`<data_dir>/pods/NAME`).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "shim/config.h"

namespace bulkhead::cli {

struct PodRecord {  // pod.json
  std::string name;
  std::string image;
  std::vector<std::string> command;
  std::string created_at;
  bool auto_remove = false;
  bool detached = false;
  std::vector<std::string> layers;  // the image's folders, lowest first
  std::string network;              // "user", "none"
  std::vector<std::string> ports;   // "127.0.0.1:8080:80/tcp"
};

struct ExitRecord {  // exit.json
  int exit_code = 0;
  int signal = 0;
  bool oom_killed = false;
  std::string exited_at;
  std::string error;

  int ShellCode() const { return signal != 0 && exit_code == 0 ? 128 + signal : exit_code; }
};

struct PodPaths {
  PodPaths(const Config& config, const std::string& pod);

  std::string name;
  std::string state;  // the pod folder
  std::string data;
  std::string lock() const { return state + "/lock"; }
  std::string socket() const { return state + "/shim.sock"; }
  std::string bundle() const { return state + "/bundle"; }
  std::string io() const { return state + "/io"; }
  std::string log() const { return state + "/log"; }
  std::string daemon_log() const { return state + "/daemon.log"; }
};

// The folders of a pod being made: removed by the destructor unless released.
class PodFolder {
 public:
  // Takes the name. `rootfs` is the folder whose mode and owner the writable layer's top gets.
  static Result<PodFolder> Create(const Config& config, const std::string& name,
                                  const std::string& rootfs);

  PodFolder(PodFolder&& other) noexcept = default;
  PodFolder& operator=(PodFolder&&) = delete;
  ~PodFolder();

  const PodPaths& paths() const { return paths_; }
  int lock_fd() const { return lock_.get(); }
  Status WriteRecord(const PodRecord& record) const;
  // Gives up the lock, which the daemon holds by now.
  void CloseLock() { lock_.Reset(); }
  // Lets the folders live on: the daemon sees to them.
  void Release() { armed_.Reset(); }
  void Remove();

 private:
  explicit PodFolder(PodPaths paths) : paths_(std::move(paths)) {}
  Status Fill(const std::string& rootfs);

  PodPaths paths_;
  UniqueFd lock_;
  UniqueFd armed_;  // an fd of the folder while it is ours to remove
};

enum class PodState { kRunning, kExited, kDead };

struct PodInfo {
  PodPaths paths;
  PodState state = PodState::kDead;
  PodRecord record;
  std::optional<ExitRecord> exit;
};

// kNotFound: "container does not exist: "x"".
Result<PodInfo> FindPod(const Config& config, const std::string& name);
Result<std::vector<PodInfo>> ListPods(const Config& config);
// Both folders of a pod that does not run.
Status RemovePod(const PodPaths& paths);
// True while a daemon (or a `run` that makes it) holds the pod's lock.
bool IsLocked(const PodPaths& paths);
std::optional<ExitRecord> ReadExit(const PodPaths& paths);

std::string RandomHex(size_t digits);
std::string RandomName();
}  // namespace bulkhead::cli
