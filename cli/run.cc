// bulkhead run: an image or a folder, in a VM of its own.
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <climits>
#include <cstdlib>
#include <memory>

#include "base/scope_guard.h"
#include "base/sys.h"
#include "cli/attach.h"
#include "cli/commands.h"
#include "cli/daemon.h"
#include "cli/pod_folder.h"
#include "cli/run_network.h"
#include "cli/run_spec.h"
#include "cli/session.h"
#include "oci/image.h"
#include "oci/image_user.h"

namespace bulkhead::cli {
namespace {

constexpr std::chrono::seconds kDaemonEnd{20};
constexpr std::chrono::seconds kDrain{10};
constexpr std::chrono::seconds kWorthALine(2);

struct Source {
  oci::ImageConfig config;
  std::vector<std::string> layers;  // lowest first
};

class Runner {
 public:
  Runner(Context& context, RunOptions options)
      : context_(context), options_(std::move(options)), session_(context, options_.timeout) {}

  Result<int> Run() {
    return session_.Run([this] { return Work(); });
  }

 private:
  Result<int> Work();
  Result<Source> OpenSource();
  Status ChoosePorts();
  Status Prepare(const Source& source, PodFolder& folder);
  Result<int> InDaemon(const Source& source, PodFolder& folder);
  Result<int> Attached(TaskClient& client, Attachment& attachment);
  void ShowProgress(const oci::ImageProgress& progress);
  Error Explain(Error error, TaskClient& client);
  void EndDaemon(PodFolder& folder, bool keep_record);

  Context& context_;
  const RunOptions options_;
  Session session_;
  Config config_;
  std::string name_;
  bool network_ = false;

  std::string NetworkOfDaemon() const {
    return !network_ ? "" : options_.network == "user" ? "user" : "auto";
  }
  Daemon::Options daemon_options_;
  std::unique_ptr<Daemon> daemon_;
  const std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

void Runner::ShowProgress(const oci::ImageProgress& progress) {
  const bool ready = progress.done >= progress.total;
  const std::string text =
      fmt::format("unpacking layer {} of {}: {} of {} MB", progress.layer + 1, progress.layers,
                  progress.done >> 20U, progress.total >> 20U);
  if (context_.options().log_format == "json" || !IsTerminal(STDERR_FILENO)) {
    // A log is told only of what took long.
    if (ready && std::chrono::steady_clock::now() - began_ > kWorthALine) {
      context_.logger().Info(text);
    }
  } else {
    (void)sys::WriteAll(STDERR_FILENO, fmt::format("\r\x1b[K{}", ready ? "" : text));
  }
}

Result<Source> Runner::OpenSource() {
  const oci::ImageArgument argument = oci::ParseImageArgument(options_.image);
  Source source;
  if (TRY(oci::DetectImage(argument.path)) == oci::ImageKind::kRootfs) {
    char resolved[PATH_MAX];
    if (::realpath(argument.path.c_str(), resolved) == nullptr) {
      return MakeErrno(sys::LastErrno(), "{}", argument.path);
    }
    source.layers = {resolved};
  } else {
    const oci::LayerCache cache = TRY(oci::LayerCache::Open(config_.data_dir + "/layers"));
    oci::OpenImageOptions open;
    open.ref = argument.ref;
    open.progress = [this](const oci::ImageProgress& progress) { ShowProgress(progress); };
    oci::UnpackedImage image = TRY(oci::OpenImage(argument.path, cache, open));
    for (const std::string& warning : image.warnings) {
      context_.Warn(warning);
    }
    source.config = std::move(image.config);
    source.layers = std::move(image.layers);
  }
  for (const std::string& layer : source.layers) {
    if (layer.find_first_of(":,\\") != std::string::npos) {
      return MakeError(ErrorCode::kInvalidArgument,
                       "{}: an overlay cannot have a path with a colon, comma or backslash", layer);
    }
  }
  return source;
}

// The bundle and the files that are mounted over the image's.
Status Runner::Prepare(const Source& source, PodFolder& folder) {
  const PodPaths& paths = folder.paths();
  const std::string hostname = options_.hostname.empty() ? RandomHex(12) : options_.hostname;
  const std::string etc = paths.state + "/etc";
  TRY(sys::Mkdir(etc, 0755));
  TRY(sys::WriteFile(etc + "/hostname", hostname + "\n"));
  TRY(sys::WriteFile(etc + "/hosts", HostsFile(options_, hostname, network_)));
  TRY(sys::WriteFile(etc + "/resolv.conf",
                     ResolvConfFile(options_, network_, shim::ReadHostResolver())));
  const std::string user = options_.user.empty() ? source.config.user : options_.user;
  const oci::ResolvedUser resolved = TRY(oci::ResolveUser(user, source.layers, options_.group_add));
  SpecInput input{options_, source.config, resolved, hostname, etc, std::nullopt, std::nullopt};
  if (options_.terminal) {
    input.console_size = TerminalSize();
  }
  if (!options_.seccomp_profile.empty()) {
    const std::string text =
        TRY_AS(sys::ReadFile(options_.seccomp_profile), "--security-opt seccomp");
    input.seccomp_profile = TRY(ParseSeccompProfile(text, options_.seccomp_profile));
  }
  const oci::Spec spec = TRY(BuildSpec(input));
  TRY(sys::WriteFile(paths.bundle() + "/config.json", oci::SpecToJson(spec), 0600));
  return folder.WriteRecord({name_, options_.image, spec.process->args, UtcNow(9),
                             options_.auto_remove, options_.detach, source.layers,
                             network_ ? "user" : "none", daemon_options_.publish});
}

// Before anything is started: whoever has one of the ports is told of at once.
Status Runner::ChoosePorts() {
  std::vector<shim::PublishedPorts> ports = options_.publish;
  TRY_AS(shim::ClaimPorts(ports), "--publish");
  daemon_options_ = {options_.detach, options_.auto_remove, options_.accel, NetworkOfDaemon(), {}};
  for (const shim::PublishedPorts& each : ports) {
    daemon_options_.publish.push_back(shim::ToText(each));
  }
  return {};
}

Result<int> Runner::Work() {
  config_ = TRY(context_.LoadConfig());
  name_ = options_.name.empty() ? RandomName() : options_.name;
  if (!options_.name.empty() && IsLocked(PodPaths(config_, name_))) {
    return MakeError(ErrorCode::kAlreadyExists, "a container named \"{}\" exists already", name_);
  }
  const Source source = TRY(OpenSource());
  context_.Mark("image opened");
  const std::string& stop =
      options_.stop_signal.empty() ? source.config.stop_signal : options_.stop_signal;
  if (!stop.empty()) {
    session_.set_stop_signal(TRY(ParseSignal(stop)));
  }
  network_ = TRY(ChooseNetwork(context_, config_, options_));
  TRY(ChoosePorts());
  session_.OnAbort([] {});  // until there is a daemon the work is short: it is waited for
  PodFolder folder = TRY(PodFolder::Create(config_, name_, source.layers.back()));
  TRY(Prepare(source, folder));
  context_.Mark("bundle written");
  daemon_ = TRY(Daemon::Start(context_, config_, folder, daemon_options_));
  session_.OnAbort([this] { daemon_->CutLifeline(); });
  if (session_.aborted()) {
    daemon_->CutLifeline();
  }
  context_.Mark("daemon started");
  Result<int> result = InDaemon(source, folder);
  if (result && options_.detach) {
    daemon_->Detach();
    folder.Release();
    TRY(PrintOut(name_ + "\n"));
    return 0;
  }
  EndDaemon(folder, result.has_value());
  context_.Mark("pod removed");
  return result;
}

Result<int> Runner::InDaemon(const Source& source, PodFolder& folder) {
  const PodPaths& paths = folder.paths();
  const std::unique_ptr<TaskClient> client = TRY(TaskClient::Connect(paths.socket(), name_));
  const ScopeGuard ended([this] { session_.Ended(); });
  std::unique_ptr<Attachment> attachment;
  StdioPaths stdio;
  if (!options_.detach) {
    attachment = TRY(Attachment::Make(paths.io(), "", options_.interactive, options_.terminal));
    stdio = attachment->paths();
  }
  std::string lower = "lowerdir=";
  for (auto layer = source.layers.rbegin(); layer != source.layers.rend(); ++layer) {
    lower += (layer == source.layers.rbegin() ? "" : ":") + *layer;
  }
  const Status created = client->Create(
      paths.bundle(),
      {lower, "upperdir=" + paths.data + "/upper", "workdir=" + paths.data + "/work"},
      options_.terminal, stdio);
  if (!created) {
    return tl::unexpected(Explain(created.error(), *client));
  }
  context_.Mark("container created");
  Result<int> result = 0;
  if (options_.detach) {
    const Status started = client->Start("");
    if (!started) {
      result = tl::unexpected(started.error());
    }
  } else {
    result = Attached(*client, *attachment);
  }
  if (!result) {
    result = tl::unexpected(Explain(std::move(result).error(), *client));
  }
  if (!result || !options_.detach) {
    session_.Ended();
    (void)client->Delete("");
    (void)client->Shutdown();
  }
  return result;
}

Result<int> Runner::Attached(TaskClient& client, Attachment& attachment) {
  TRY(attachment.Begin([&client] { (void)client.Kill("", SIGKILL); }));
  TRY(client.Start(""));
  context_.Mark("process started");
  context_.ShowTimeline();
  session_.Started(&client, "", options_.terminal);
  const int status = TRY(client.Wait(""));
  session_.Ended();
  if (!attachment.Drain(kDrain)) {
    context_.Warn("something still holds the container's output 10 s after its end: left");
  }
  const std::optional<ExitRecord> record = ReadExit(PodPaths(config_, name_));
  if (record && record->oom_killed) {
    context_.Warn("the container was killed: it used more memory than its limit");
  }
  if (const std::optional<Error> error = attachment.output_error()) {
    return tl::unexpected(*error);
  }
  return status;
}

// A lost connection says nothing by itself: how the daemon ended does.
Error Runner::Explain(Error error, TaskClient& client) {
  if (!client.lost()) {
    return error;
  }
  const std::optional<sys::Exit> exit = daemon_->WaitEnd(kDaemonEnd);
  if (!exit) {
    return Error(ErrorCode::kUnavailable, "the pod's daemon does not answer any more");
  }
  return Error(ErrorCode::kUnavailable,
               exit->signal != 0
                   ? fmt::format("the pod's daemon ended unexpectedly (signal {})", exit->signal)
                   : fmt::format("the pod's daemon ended unexpectedly (exit code {})", exit->code));
}

// The daemon gives everything back before it ends. `keep_record`: it wrote what `list` shows.
void Runner::EndDaemon(PodFolder& folder, bool keep_record) {
  session_.OnAbort([] {});
  if (!keep_record) {
    daemon_->CutLifeline();  // after an orderly Shutdown a cut would cost the record
  }
  const std::optional<sys::Exit> exit = daemon_->WaitEnd(kDaemonEnd);
  if (!exit) {
    context_.Warn("the pod's daemon does not end: killed");
    daemon_->Kill();
    (void)daemon_->WaitEnd(kDaemonEnd);
  }
  if (keep_record && !options_.auto_remove && exit && exit->signal == 0) {
    folder.Release();
  } else {
    folder.Remove();
  }
}

int RunCommand(Context& context, const RawRunOptions& raw) {
  Result<RunOptions> options = ParseRunOptions(raw);
  if (!options) {
    return context.Fail(options.error());
  }
  const Status stdio =
      CheckStdio(context.options(), options->interactive, options->terminal, options->detach);
  if (!stdio) {
    return context.Fail(stdio.error());
  }
  BlockSignals();
  const Result<int> result = Runner(context, std::move(*options)).Run();
  return result ? *result : context.Fail(result.error());
}

}  // namespace

void AddRun(CLI::App& app, GlobalOptions& globals, Action& action) {
  CLI::App* run = app.add_subcommand(
      "run",
      "Run a container in a VM of its own.\n"
      "Form: bulkhead run [OPTIONS] IMAGE|ROOTFS [COMMAND...]\n\n"
      "IMAGE is an OCI image layout (folder or tar) or a docker save archive, with :NAME when it\n"
      "holds several images. ROOTFS is a folder with a root file system; it is not modified.\n"
      "Options stand before IMAGE; what follows it is the container's command.");
  auto raw = std::make_shared<RawRunOptions>();
  AddRunOptions(*run, *raw);
  AddGlobalOptions(*run, globals);
  run->footer(
      "Exit code: the command's own; 128+n when signal n ended it; 124 after --timeout; 125 when\n"
      "Bulkhead failed; 126 when the command cannot be executed; 127 when it does not exist.\n\n"
      "Examples:\n"
      "  bulkhead run busybox.tar uname -r\n"
      "  bulkhead run -d -p 8080:80 nginx.tar\n"
      "  bulkhead run -it --rm -v $PWD:/work:ro -w /work debian.tar bash\n"
      "  echo hi | bulkhead run -i ./rootfs cat");
  run->prefix_command();
  run->callback([&action, run, raw] {
    raw->rest = run->remaining();
    action = [raw](Context& context) { return RunCommand(context, *raw); };
  });
}

}  // namespace bulkhead::cli
