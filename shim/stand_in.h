// The process that stands for a container on the host: its pid is what an engine is given. It lives
// in the container's network namespace, where engines and CNI plugins look for it by /proc/PID/ns,
// and does nothing.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "base/child.h"
#include "base/result.h"
#include "base/spawn_thread.h"

namespace bulkhead::shim {

struct NetworkNamespace {
  enum class Kind { kHost, kNew, kJoin } kind = Kind::kHost;
  std::string path;  // kJoin
};

class StandIn {
 public:
  // Returns when it is in its namespaces. `program` is the shim, which is the stand-in's too.
  // `on_end`, in a thread of its own: somebody else ended it. The destructor waits for that.
  static Result<std::unique_ptr<StandIn>> Start(SpawnThread& spawner, const std::string& program,
                                                const NetworkNamespace& network,
                                                std::function<void()> on_end);
  ~StandIn();
  StandIn(const StandIn&) = delete;
  StandIn& operator=(const StandIn&) = delete;

  pid_t pid() const { return child_.pid(); }  // nobody else's while this lives
  bool Ended() const;

 private:
  StandIn(Child child, UniqueFd stop, std::function<void()> on_end);
  void Watch(const std::function<void()>& on_end) const;

  const Child child_;
  const UniqueFd stop_;
  std::thread watcher_;
};

// The stand-in's own main: `stand-in host|new|join`, with fd 3 to report on and fd 4, the namespace
// to join.
int StandInMain(const std::string& network);

}  // namespace bulkhead::shim
