#include "shim/bootstrap.h"

#include <fmt/core.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstdlib>

#include "base/sys.h"
#include "containerd/bootstrap.pb.h"
#include "containerd/introspection.pb.h"
#include "containerd/mount.pb.h"
#include "containerd/runc.pb.h"
#include "containerd/runtime_options.pb.h"
#include "shim/root_drive.h"
#include "shim/typed_any.h"

namespace bulkhead::shim {
namespace {

namespace bootstrap = containerd::runtime::bootstrap::v1;

constexpr int kShimVersion = 2;
constexpr char kProtocol[] = "ttrpc";
constexpr char kInputName[] = "the runtime's options on stdin";
constexpr char kFeaturesType[] =
    "types.containerd.io/opencontainers/runtime-spec/1/features/Features";
// Names the message has had; its fields never changed.
constexpr std::array<std::string_view, 2> kOptionsTypes{"runtimeoptions.v1.Options",
                                                        "cri.runtimeoptions.v1.Options"};
// The second is of the time before shims had version 2.
constexpr std::array<std::string_view, 2> kRuncTypes{"containerd.runc.v1.Options",
                                                     "containerd.linux.runc.RuncOptions"};

template <typename List>
bool Contains(const List& list, std::string_view name) {
  for (const std::string_view entry : list) {
    if (entry == name) {
      return true;
    }
  }
  return false;
}

template <typename Message>
bool Parse(std::string_view bytes, Message& message) {
  return message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
}

std::string Variable(const char* name) {
  const char* value = ::getenv(name);
  return value == nullptr ? "" : value;
}

bool HasJsonAnswers(const std::string& max_shim_version) {
  int version = 0;
  const char* end = max_shim_version.data() + max_shim_version.size();
  const auto result = std::from_chars(max_shim_version.data(), end, version);
  return result.ec == std::errc() && result.ptr == end && version >= kShimVersion;
}

// Options parse as BootstrapParams too: only the names tell.
std::optional<bootstrap::BootstrapParams> AsBootstrapParams(std::string_view input,
                                                            const ShimFlags& flags) {
  bootstrap::BootstrapParams params;
  if (input.empty() || !Parse(input, params) || params.instance_id() != flags.id ||
      params.namespace_() != flags.container_namespace) {
    return std::nullopt;
  }
  return params;
}

Result<google::protobuf::Any> ParseAny(std::string_view input) {
  google::protobuf::Any any;
  if (!Parse(input, any)) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: not a protobuf Any", kInputName);
  }
  return any;
}

Status TakeBootstrapParams(const bootstrap::BootstrapParams& params, StartRequest& request,
                           Logger& logger) {
  request.answer = StartAnswerForm::kProtobuf;
  if (!params.containerd_ttrpc_address().empty()) {
    request.ttrpc_address = params.containerd_ttrpc_address();
  }
  request.socket_dir = params.socket_dir();
  request.debug = request.debug || params.log_level() <= bootstrap::LOG_LEVEL_DEBUG;
  for (const auto& extension : params.extensions()) {
    RuntimeOptions options = TRY(OptionsFromAny(extension.value(), logger));
    if (options.config_path || options.config_body) {
      request.options = std::move(options);
    }
  }
  return {};
}

containerd::types::MountCapabilities OwnMounts() {
  containerd::types::MountCapabilities capabilities;
  for (const std::string_view type : DriveFilesystems()) {
    capabilities.add_types(std::string(type));
  }
  return capabilities;
}

}  // namespace

Result<RuntimeOptions> OptionsFromAny(const google::protobuf::Any& any, Logger& logger) {
  RuntimeOptions options;
  const std::string_view type = TypeName(any);
  if (!Contains(kOptionsTypes, type)) {
    if (!type.empty() && !Contains(kRuncTypes, type)) {
      logger.Debug("options of an unknown type are ignored", {{"type_url", any.type_url()}});
    }
    return options;
  }
  runtimeoptions::v1::Options message;
  if (!message.ParseFromString(any.value())) {
    return MakeError(ErrorCode::kInvalidArgument, "the runtime's options: not a {}", type);
  }
  const std::string& path = message.config_path();
  if (!path.empty()) {
    if (path[0] != '/' || path.find('\0') != std::string::npos) {
      return MakeError(ErrorCode::kInvalidArgument,
                       "the runtime's options: ConfigPath \"{}\" is not an absolute path", path);
    }
    options.config_path = path;
  } else if (!message.config_body().empty()) {
    options.config_body = message.config_body();
  }
  return options;
}

StartEnvironment StartEnvironment::OfProcess() {
  return {Variable("TTRPC_ADDRESS"), Variable("MAX_SHIM_VERSION")};
}

Result<std::string> ReadStartInput(int fd) {
  if (::isatty(fd) == 1) {
    return std::string();  // a person tries it out
  }
  auto input = sys::ReadFd(fd, kMaxStartInput, kInputName);
  if (!input && input.error().errnum() == EBADF) {
    return std::string();
  }
  return input;
}

Result<StartRequest> ParseStartRequest(std::string_view input, const ShimFlags& flags,
                                       const StartEnvironment& environment, Logger& logger) {
  StartRequest request;
  request.ttrpc_address = environment.ttrpc_address;
  request.debug = flags.debug;
  if (const auto params = AsBootstrapParams(input, flags)) {
    TRY(TakeBootstrapParams(*params, request, logger));
    return request;
  }
  if (HasJsonAnswers(environment.max_shim_version)) {
    request.answer = StartAnswerForm::kJson;
  }
  request.options = TRY(OptionsFromAny(TRY(ParseAny(input)), logger));
  return request;
}

std::string FormatStartAnswer(StartAnswerForm form, std::string_view address) {
  switch (form) {
    case StartAnswerForm::kJson:
      return fmt::format(R"({{"version":{},"address":{},"protocol":"{}"}})", kShimVersion,
                         JsonQuote(address), kProtocol);
    case StartAnswerForm::kProtobuf: {
      bootstrap::BootstrapResult result;
      result.set_version(kShimVersion);
      result.set_address(std::string(address));
      result.set_protocol(kProtocol);
      *result.add_extensions()->mutable_value() = PackAny(OwnMounts());
      return result.SerializeAsString();
    }
    case StartAnswerForm::kAddress:
      break;
  }
  return std::string(address);
}

Result<std::string> FormatRuntimeInfo(std::string_view input, const RuntimeDescription& runtime) {
  containerd::types::RuntimeInfo info;
  info.set_name(runtime.name);
  info.mutable_version()->set_version(runtime.version);
  info.mutable_version()->set_revision(runtime.revision);
  if (!input.empty()) {
    *info.mutable_options() = TRY(ParseAny(input));
  }
  if (!runtime.features_json.empty()) {
    info.mutable_features()->set_type_url(kFeaturesType);
    info.mutable_features()->set_value(runtime.features_json);
  }
  return info.SerializeAsString();
}

}  // namespace bulkhead::shim
