// bulkhead logs: what a container has printed.
#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "base/sys.h"
#include "cli/commands.h"
#include "cli/log_lines.h"
#include "cli/option_values.h"
#include "cli/pod_folder.h"

namespace bulkhead::cli {
namespace {

constexpr size_t kChunk = 1U << 20U;

struct LogsOptions {
  std::string name;
  bool follow = false;
  bool times = false;
  std::string tail = "all";
};

class LogReader {
 public:
  LogReader(UniqueFd file, bool times) : file_(std::move(file)), printer_(times) {}

  // Prints what there is up to the last whole line.
  Status Print();
  // Goes to where the last `count` lines begin. Looks at the file's last part only, as much of it
  // as is needed.
  Status SkipToTail(size_t count);

 private:
  UniqueFd file_;
  LogPrinter printer_;
  uint64_t offset_ = 0;
  std::string rest_;  // the beginning of a line whose end is not there yet
};

Status LogReader::Print() {
  std::string buffer(kChunk, '\0');
  while (true) {
    const auto bytes = std::as_writable_bytes(std::span(buffer.data(), buffer.size()));
    const size_t count = TRY(sys::ReadAt(file_.get(), bytes, offset_));
    if (count == 0) {
      return {};
    }
    offset_ += count;
    rest_.append(buffer, 0, count);
    std::string out;
    std::string err;
    size_t begin = 0;
    for (size_t end = rest_.find('\n'); end != std::string::npos; end = rest_.find('\n', begin)) {
      if (const auto line = ParseLogLine(std::string_view(rest_).substr(begin, end - begin))) {
        printer_.Print(*line, out, err);
      }
      begin = end + 1;
    }
    rest_.erase(0, begin);
    TRY(PrintOut(out));
    (void)sys::WriteAll(STDERR_FILENO, err);
  }
}

Status LogReader::SkipToTail(size_t count) {
  const auto size = static_cast<uint64_t>(TRY(sys::FStat(file_.get())).st_size);
  for (uint64_t part = kChunk;; part *= 4) {
    const uint64_t from = size > part ? size - part : 0;
    std::string text(size - from, '\0');
    const auto bytes = std::as_writable_bytes(std::span(text.data(), text.size()));
    text.resize(text.empty() ? 0 : TRY(sys::ReadAt(file_.get(), bytes, from)));
    const size_t whole = text.rfind('\n');
    const std::string_view lines =
        std::string_view(text).substr(0, whole == std::string::npos ? 0 : whole + 1);
    const size_t offset = TailOffset(lines, count);
    if (offset > 0 || from == 0) {
      offset_ = from + offset;
      return {};
    }
  }
}

// Sleeps until the log grows; looks now and then whether the container still runs.
void AwaitChange(int watch) {
  const Result<bool> changed = sys::PollOne(watch, POLLIN, std::chrono::milliseconds(500));
  if (changed && *changed) {
    std::array<std::byte, 4096> events{};
    (void)sys::Read(watch, events);
  }
}

Status Logs(Context& context, const LogsOptions& options) {
  const Config config = TRY(context.LoadConfig());
  const PodInfo pod = TRY(FindPod(config, options.name));
  Result<UniqueFd> file = sys::Open(pod.paths.log(), O_RDONLY);
  const UniqueFd watch(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  TRY(sys::CheckCall(watch.get(), "inotify"));
  while (!file && options.follow && IsLocked(pod.paths)) {
    (void)sys::PollOne(watch.get(), POLLIN, std::chrono::milliseconds(100));
    file = sys::Open(pod.paths.log(), O_RDONLY);
  }
  if (!file && file.error().errnum() == ENOENT) {
    return {};  // it has printed nothing
  }
  LogReader reader(TRY(std::move(file)), options.times);
  if (options.tail != "all") {
    const int64_t count = TRY_AS(ParseInteger(options.tail), "--tail");
    TRY(reader.SkipToTail(static_cast<size_t>(std::max<int64_t>(count, 0))));
  }
  (void)::inotify_add_watch(watch.get(), pod.paths.log().c_str(), IN_MODIFY);
  while (true) {
    const bool last = !options.follow || !IsLocked(pod.paths);
    TRY(reader.Print());
    if (last) {
      return {};
    }
    AwaitChange(watch.get());
  }
}

}  // namespace

void AddLogs(CLI::App& app, GlobalOptions& globals, Action& action) {
  CLI::App* logs = app.add_subcommand(
      "logs", "Print what a container has printed: its stdout to stdout, its stderr to stderr.");
  auto options = std::make_shared<LogsOptions>();
  logs->add_option("NAME", options->name, "The container")->required()->type_name("");
  logs->add_flag("-f,--follow", options->follow, "Go on until it has ended");
  logs->add_flag("-t,--timestamps", options->times, "Begin each line with its time");
  logs->add_option("-n,--tail", options->tail, "The last N lines only (default: all)")
      ->type_name("N");
  AddGlobalOptions(*logs, globals);
  logs->callback([&action, options] {
    action = [options](Context& context) {
      const Status printed = Logs(context, *options);
      return printed ? 0 : context.Fail(printed.error());
    };
  });
}

}  // namespace bulkhead::cli
