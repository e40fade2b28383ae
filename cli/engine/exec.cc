#include "cli/engine/exec.h"

#include <algorithm>
#include <charconv>

#include "base/sys.h"
#include "cli/engine/container.h"
#include "cli/option_values.h"
#include "cli/terminal.h"

namespace bulkhead::cli {
namespace {

constexpr int kExecFailed = 255;  // as runc has it

Result<uint32_t> ParseId(std::string_view text) {
  uint32_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || result.ec != std::errc() || result.ptr != text.data() + text.size()) {
    return MakeError(ErrorCode::kInvalidArgument, "\"{}\" is not a number", text);
  }
  return value;
}

void AddTo(std::vector<std::string>& set, const std::string& name) {
  if (std::find(set.begin(), set.end(), name) == set.end()) {
    set.push_back(name);
  }
}

Result<int> Exec(Context& context, const EngineExecOptions& options) {
  if (options.preserve_fds != 0) {
    return MakeError(ErrorCode::kUnimplemented,
                     "--preserve-fds: open files of the host cannot be given to a process in a "
                     "virtual machine");
  }
  const Engine engine = TRY(Engine::Open(context));
  ExecRequest request;
  request.id = options.rest[0];
  request.pid_file = options.pid_file;
  request.console_socket = options.console_socket;
  request.ignore_paused = options.ignore_paused;
  TRY(engine.root().Load(request.id));
  if (!options.process.empty()) {
    std::vector<std::string> warnings;
    request.process = TRY_AS(oci::ParseProcess(TRY(sys::ReadFile(options.process)), &warnings),
                             "{}", options.process);
    context.WarnAll(options.process, warnings);
    request.process.terminal = request.process.terminal || options.terminal;
  } else {
    const oci::Spec spec = TRY(engine.SpecOf(request.id));
    request.process = TRY(BuildEngineProcess(options, *spec.process));
  }
  const bool own_terminal = request.process.terminal && options.console_socket.empty();
  if (own_terminal && options.detach) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "cannot allocate tty if runc will detach without setting console socket");
  }
  if (own_terminal && !IsTerminal(0)) {
    return MakeError(ErrorCode::kInvalidArgument, "the process wants a terminal, and fd 0 is none");
  }
  HostProcess process = TRY(ExecInContainer(engine, request));
  if (options.detach) {
    process.LetGo();
    return 0;
  }
  std::optional<RawTerminal> raw;
  if (own_terminal) {
    raw.emplace(TRY(RawTerminal::Enter(0)));
  }
  return process.Wait();
}

}  // namespace

Status ParseNumericUser(const std::string& text, oci::User& user) {
  const size_t colon = text.find(':');
  user.uid = TRY_AS(ParseId(text.substr(0, colon)), "--user");
  if (colon != std::string::npos) {
    user.gid = TRY_AS(ParseId(text.substr(colon + 1)), "--user");
  }
  return {};
}

Result<oci::Process> BuildEngineProcess(const EngineExecOptions& options,
                                        const oci::Process& base) {
  if (options.rest.size() < 2) {
    return MakeError(ErrorCode::kInvalidArgument, "process args cannot be empty");
  }
  oci::Process process = base;
  process.args.assign(options.rest.begin() + 1, options.rest.end());
  process.terminal = options.terminal;
  process.console_size.reset();
  if (!options.cwd.empty()) {
    process.cwd = options.cwd;
  }
  process.env.insert(process.env.end(), options.env.begin(), options.env.end());
  if (!options.user.empty()) {
    TRY(ParseNumericUser(options.user, process.user));
  }
  for (const uint32_t gid : options.additional_gids) {
    process.user.additional_gids.push_back(gid);
  }
  process.no_new_privileges = process.no_new_privileges || options.no_new_privileges;
  if (!options.caps.empty() && !process.capabilities) {
    process.capabilities.emplace();
  }
  for (const std::string& name : options.caps) {
    const std::string cap = UpperCase(name);
    for (auto* set : {&process.capabilities->bounding, &process.capabilities->effective,
                      &process.capabilities->permitted, &process.capabilities->ambient}) {
      AddTo(*set, cap.starts_with("CAP_") ? cap : "CAP_" + cap);
    }
  }
  return process;
}

int EngineExec(Context& context, const EngineExecOptions& options) {
  const auto code = Exec(context, options);
  if (!code) {
    (void)context.FailEngine(code.error());
    return options.detach ? 1 : kExecFailed;
  }
  return *code;
}

bool IsEngineContainer(Context& context, const std::string& id) {
  const auto config = context.LoadConfig();
  return config && ContainerRoot(config->state_dir).Has(id);
}

}  // namespace bulkhead::cli
