#include "shim/delete_command.h"

#include <signal.h>

#include <chrono>

#include "base/sys.h"
#include "oci/spec.h"
#include "proto_gen/containerd/task.pb.h"
#include "rpc/ttrpc_client.h"
#include "shim/engine_pod.h"
#include "shim/guest_spec.h"
#include "shim/network/tap_filters.h"
#include "shim/task_service.h"

namespace bulkhead::shim {
namespace {

namespace task = containerd::task::v2;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kCall = seconds(3);
constexpr milliseconds kEnd = seconds(10);
constexpr milliseconds kVmEnd = seconds(2);  // which dies with its daemon

template <typename Request>
Status Call(rpc::TtrpcClient& client, const char* method, const Request& request,
            milliseconds timeout) {
  std::string payload;
  request.SerializeToString(&payload);
  TRY(client.Call(kTaskServiceV2, method, std::string_view(payload), timeout));
  return {};
}

bool IsNotFound(const Status& status) {
  return !status && status.error().code() == ErrorCode::kNotFound;
}

// Asks a living daemon to give the container up. False: it does not answer as one that lives.
bool AskDaemon(const EnginePod& pod, const std::string& id) {
  const auto client = rpc::TtrpcClient::Connect(pod.socket);
  if (!client) {
    return false;
  }
  task::StateRequest state;
  state.set_id(id);
  const Status known = Call(**client, "State", state, kCall);
  if (!known && !IsNotFound(known)) {
    return false;
  }
  if (known) {
    task::KillRequest kill;
    kill.set_id(id);
    kill.set_signal(SIGKILL);
    kill.set_all(true);
    (void)Call(**client, "Kill", kill, kCall);
    task::WaitRequest wait;
    wait.set_id(id);
    (void)Call(**client, "Wait", wait, kEnd);
    task::DeleteRequest remove;
    remove.set_id(id);
    const Status removed = Call(**client, "Delete", remove, kEnd);
    if (!removed && !IsNotFound(removed)) {
      return false;
    }
  }
  task::ShutdownRequest shutdown;
  shutdown.set_id(id);
  (void)Call(**client, "Shutdown", shutdown, kCall);
  return true;
}

// A daemon that was killed could not do it.
Status RestoreNetwork(const std::string& bundle) {
  const oci::Spec spec = TRY(oci::ParseSpec(TRY(sys::ReadFile(bundle + "/config.json"))));
  return RemoveStaleFilters(HostNetworkOf(spec).path, kVmEnd);
}

Status Clean(const EnginePod& pod, const std::string& bundle, const std::string& id,
             Logger& logger) {
  auto lock = pod.Lock(milliseconds(0));
  if (!lock && lock.error().code() == ErrorCode::kNotFound) {
    (void)sys::Unlink(pod.socket);  // an orderly end
    return {};
  }
  if (!lock) {
    if (AskDaemon(pod, id)) {
      return {};
    }
    // On its way out, it no longer answers; else it hangs.
    lock = pod.Lock(kEnd);
  }
  if (!lock && lock.error().code() == ErrorCode::kUnavailable) {
    logger.Warning("the pod's daemon does not answer: it is killed");
    TRY(pod.KillDaemon());
    lock = pod.Lock(kEnd);
  }
  if (!lock && lock.error().code() != ErrorCode::kNotFound) {
    return tl::unexpected(lock.error());
  }
  if (const Status restored = RestoreNetwork(bundle); !restored) {
    logger.Warning(restored.error().message());
  }
  return pod.Remove();
}

}  // namespace

Result<std::string> RunDelete(const ShimFlags& flags, Logger& logger) {
  const std::string bundle = flags.bundle.empty() ? "." : flags.bundle;
  const auto pod = EnginePod::OfBundle(bundle);
  if (pod) {
    TRY(Clean(*pod, bundle, flags.id, logger));
  } else if (pod.error().code() != ErrorCode::kNotFound) {
    return tl::unexpected(pod.error());
  }
  task::DeleteResponse response;
  response.set_exit_status(128 + SIGKILL);
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  response.mutable_exited_at()->set_seconds(
      std::chrono::duration_cast<std::chrono::seconds>(now).count());
  return response.SerializeAsString();
}

}  // namespace bulkhead::shim
