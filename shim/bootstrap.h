// How containerd starts a shim: what `start` is told on stdin and in its environment, what it
// prints, and what -info does. Three generations: up to 1.6, 1.7 to 2.2, and from 2.3 on.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/log.h"
#include "base/result.h"
#include "google/protobuf/any.pb.h"
#include "shim/shim_flags.h"

namespace bulkhead::shim {

inline constexpr size_t kMaxStartInput = 1U << 20U;

// What an engine's configuration says to this runtime. Also the meaning of Create's `options`.
struct RuntimeOptions {
  std::optional<std::string> config_path;  // a configuration file instead of the host's
  std::optional<std::string> config_body;  // or the text of one; never both
};

// runtimeoptions.v1.Options under each of its names. Options meant for runc, which dockerd gives to
// every runtime, and those of unknown type are no options.
Result<RuntimeOptions> OptionsFromAny(const google::protobuf::Any& any, Logger& logger);

// The variables that concern `start`.
struct StartEnvironment {
  std::string ttrpc_address;     // TTRPC_ADDRESS
  std::string max_shim_version;  // MAX_SHIM_VERSION; empty: a daemon that has none, 1.6 or older

  static StartEnvironment OfProcess();
};

// What the daemon that starts us understands.
enum class StartAnswerForm {
  kAddress,   // the address alone: 1.6
  kJson,      // an object of version, address and protocol: 1.7 to 2.2
  kProtobuf,  // BootstrapResult: 2.3
};

struct StartRequest {
  StartAnswerForm answer = StartAnswerForm::kAddress;
  std::string ttrpc_address;  // where events go; empty: nowhere
  std::string socket_dir;     // for the shim's socket; empty: its own choice
  bool debug = false;
  RuntimeOptions options;
};

// All of stdin, which may be closed, /dev/null, or a terminal (then nothing is read).
Result<std::string> ReadStartInput(int fd);

// `input` is a BootstrapParams of this very id and namespace, or an Any with options, or empty.
Result<StartRequest> ParseStartRequest(std::string_view input, const ShimFlags& flags,
                                       const StartEnvironment& environment, Logger& logger);

// The bytes to print. The version told is 2 to everyone: at 3 a daemon would ask this shim for
// sandboxes and no longer call `start` for each container of a pod.
std::string FormatStartAnswer(StartAnswerForm form, std::string_view address);

struct RuntimeDescription {
  std::string name;  // "io.containerd.bulkhead.v2"
  std::string version;
  std::string revision;
  std::string features_json;  // of OCI's features.md; empty: not told
};

// What -info prints, given what it read on stdin: a serialised RuntimeInfo.
Result<std::string> FormatRuntimeInfo(std::string_view input, const RuntimeDescription& runtime);

}  // namespace bulkhead::shim
