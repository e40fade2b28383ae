// The process that stands for one of a pod on the host: its pid is what an engine is given. It
// lives in the container's network namespace, where engines and CNI plugins look for it by
// /proc/PID/ns. With a channel to the daemon it is more: what is sent to it, signals and window
// sizes, goes to the process in the guest, and it ends as that process does.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/child.h"
#include "base/result.h"
#include "base/spawn_thread.h"

namespace bulkhead::shim {

struct NetworkNamespace {
  enum class Kind { kHost, kNew, kJoin } kind = Kind::kHost;
  std::string path;  // kJoin
};

struct WindowSize {
  uint32_t rows = 0;
  uint32_t columns = 0;
  bool operator==(const WindowSize&) const = default;
};

// A stand-in to be. `program` is the shim, which is the stand-in's too.
struct StandInSpec {
  std::string program;
  std::vector<std::string> title;  // what `ps` shows of it; empty: what it is
  NetworkNamespace network;
  std::string bundle;        // of the container whose files are in its sight; empty: none are
  int channel = -1;          // the stand-in's end; -1: it does nothing, and dies with its maker
  int terminal = -1;         // whose size it watches
  bool controlling = false;  // the terminal shall be its session's own
};
using Spawner = std::function<Result<Child>(const SpawnOptions&)>;
// Returns when it is in its namespaces.
Result<Child> SpawnStandIn(const StandInSpec& spec, const Spawner& spawner);

// What is said over the channel (SOCK_SEQPACKET).
struct StandInMessage {
  enum Kind : int32_t { kSignal = 1, kSize = 2, kExit = 3 };
  int32_t kind = 0;
  int32_t first = 0;   // the signal; rows; the exit code
  int32_t second = 0;  // columns; the signal that ended it, or 0
};

// Metadata of Create and Exec: "PID TOKEN" of a stand-in that the client made, whose files "pidfd"
// and "channel" it handed over as TOKEN; with Create also "mounts", its own mount namespace.
inline constexpr char kStandInMetadata[] = "bulkhead-stand-in";

// The daemon's side.
class StandIn {
 public:
  // Called in a thread of the stand-in's own, which the destructor waits for.
  struct Events {
    std::function<void()> on_end;  // somebody else ended it
    std::function<void(int)> on_signal;
    std::function<void(WindowSize)> on_size;
  };
  static Result<std::unique_ptr<StandIn>> Start(SpawnThread& spawner, const std::string& program,
                                                const NetworkNamespace& network, Events events);
  // One that a client made: it lives on when this ends, if it was told an exit, and is killed else.
  struct Link {
    pid_t pid = 0;
    UniqueFd pidfd;
    UniqueFd channel;
  };
  static Result<std::unique_ptr<StandIn>> Adopt(Link link, Events events);
  ~StandIn();
  StandIn(const StandIn&) = delete;
  StandIn& operator=(const StandIn&) = delete;

  pid_t pid() const { return pid_; }  // nobody else's while this lives, unless adopted
  bool adopted() const { return channel_.valid(); }
  bool Ended() const;
  std::optional<WindowSize> size() const;
  // An adopted one ends in this way now.
  void TellExit(int code, int signal);

 private:
  StandIn(std::optional<Child> child, Link link, UniqueFd stop, Events events);
  void Watch();
  bool ReadChannel();

  const std::optional<Child> child_;  // of our own
  const pid_t pid_;
  const UniqueFd pidfd_;  // adopted
  const UniqueFd channel_;
  const UniqueFd stop_;
  const Events events_;
  mutable std::mutex mutex_;
  std::optional<WindowSize> size_;
  std::thread watcher_;
};

// The name of a stand-in's process, as /proc/PID/comm tells it.
inline constexpr char kStandInComm[] = "bulkhead-pause";
// The variable that makes the program a stand-in, for its arguments are its title:
// "host|new|join [channel] [terminal|controlling]".
inline constexpr char kStandInVariable[] = "BULKHEAD_STAND_IN";
inline constexpr char kStandInBundleVariable[] = "BULKHEAD_STAND_IN_BUNDLE";
int StandInMain(const std::string& words);

}  // namespace bulkhead::shim
