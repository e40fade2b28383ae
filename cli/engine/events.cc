// bulkhead events: what a container uses, once or again and again until it ends.
#include "cli/engine/events.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/sys.h"
#include "cli/commands.h"
#include "cli/engine/action.h"
#include "containerd/cgroups_v1.pb.h"
#include "containerd/cgroups_v2.pb.h"

namespace bulkhead::cli {
namespace {

using Json = nlohmann::json;
namespace v1 = io::containerd::cgroups::v1;
namespace v2 = io::containerd::cgroups::v2;

constexpr uint64_t kNanoseconds = 1000;  // in a microsecond

// By the names of runc's Go structure.
template <typename Metrics>
Json NetworkOf(const Metrics& metrics) {
  Json interfaces = Json::array();
  for (const auto& interface : metrics.network()) {
    interfaces.push_back({{"Name", interface.name()},
                          {"RxBytes", interface.rx_bytes()},
                          {"RxPackets", interface.rx_packets()},
                          {"RxErrors", interface.rx_errors()},
                          {"RxDropped", interface.rx_dropped()},
                          {"TxBytes", interface.tx_bytes()},
                          {"TxPackets", interface.tx_packets()},
                          {"TxErrors", interface.tx_errors()},
                          {"TxDropped", interface.tx_dropped()}});
  }
  return interfaces;
}

// By runc's names, whichever version the figures come from.
Json DataOf(const v1::Metrics& metrics) {
  const auto entry = [](const v1::MemoryEntry& memory) {
    return Json{{"limit", memory.limit()},
                {"usage", memory.usage()},
                {"max", memory.max()},
                {"failcnt", memory.failcnt()}};
  };
  const v1::CPUStat& cpu = metrics.cpu();
  const v1::MemoryStat& memory = metrics.memory();
  return Json{{"cpu",
               {{"usage",
                 {{"total", cpu.usage().total()},
                  {"kernel", cpu.usage().kernel()},
                  {"user", cpu.usage().user()}}},
                {"throttling",
                 {{"periods", cpu.throttling().periods()},
                  {"throttledPeriods", cpu.throttling().throttled_periods()},
                  {"throttledTime", cpu.throttling().throttled_time()}}}}},
              {"memory",
               {{"cache", memory.cache()},
                {"usage", entry(memory.usage())},
                {"swap", entry(memory.swap())},
                {"kernel", entry(memory.kernel())},
                {"kernelTCP", entry(memory.kernel_tcp())}}},
              {"pids", {{"current", metrics.pids().current()}, {"limit", metrics.pids().limit()}}}};
}

Json DataOf(const v2::Metrics& metrics) {
  const v2::CPUStat& cpu = metrics.cpu();
  const v2::MemoryStat& memory = metrics.memory();
  return Json{
      {"cpu",
       {{"usage",
         {{"total", cpu.usage_usec() * kNanoseconds},
          {"kernel", cpu.system_usec() * kNanoseconds},
          {"user", cpu.user_usec() * kNanoseconds}}},
        {"throttling",
         {{"periods", cpu.nr_periods()},
          {"throttledPeriods", cpu.nr_throttled()},
          {"throttledTime", cpu.throttled_usec() * kNanoseconds}}}}},
      {"memory",
       {{"cache", memory.file()},
        {"usage", {{"limit", memory.usage_limit()}, {"usage", memory.usage()}, {"failcnt", 0}}},
        {"swap",
         {{"limit", memory.swap_limit()}, {"usage", memory.swap_usage()}, {"failcnt", 0}}}}},
      {"pids", {{"current", metrics.pids().current()}, {"limit", metrics.pids().limit()}}}};
}

uint64_t OomKills(const v1::Metrics& metrics) { return metrics.memory_oom_control().oom_kill(); }
uint64_t OomKills(const v2::Metrics& metrics) { return metrics.memory_events().oom_kill(); }

struct Figures {
  Json data;
  uint64_t oom_kills = 0;
};

template <typename Metrics>
Result<Figures> Parse(const std::string& bytes) {
  Metrics metrics;
  if (!metrics.ParseFromString(bytes)) {
    return MakeError(ErrorCode::kInternal, "the pod's daemon tells no statistics");
  }
  Json data = DataOf(metrics);
  data["network_interfaces"] = NetworkOf(metrics);
  return Figures{std::move(data), OomKills(metrics)};
}

Result<Figures> FiguresOf(const TaskStats& stats) {
  return stats.type.find(".v2.") != std::string::npos ? Parse<v2::Metrics>(stats.metrics)
                                                      : Parse<v1::Metrics>(stats.metrics);
}

std::string Line(const std::string& id, const char* type, Json data) {
  Json line{{"type", type}, {"id", id}};
  if (!data.is_null()) {
    line["data"] = std::move(data);
  }
  return line.dump();
}

Status Events(const Engine& engine, const std::string& id, bool once,
              std::chrono::milliseconds interval) {
  const ContainerRecord record = TRY(engine.root().Load(id));
  if (TRY(StateOf(engine, record)).status == "stopped") {
    return MakeError(ErrorCode::kFailedPrecondition, "container not running: \"{}\"", id);
  }
  const UniqueFd pidfd = TRY(sys::PidfdOpen(record.pid));
  const auto client = TRY(engine.Daemon(record));
  std::optional<uint64_t> kills;
  while (true) {
    const auto stats = client->Stats();
    if (!stats && (once || StandInLives(record))) {
      return tl::unexpected(stats.error());
    }
    if (stats) {
      const Figures figures = TRY(FiguresOf(*stats));
      if (kills && figures.oom_kills > *kills) {
        TRY(PrintOut(Line(id, "oom", nullptr) + "\n"));
      }
      kills = figures.oom_kills;
      TRY(PrintOut(Line(id, "stats", figures.data) + "\n"));
    }
    if (once || TRY(sys::PollOne(pidfd.get(), /*POLLIN*/ 1, interval))) {
      return {};
    }
  }
}

}  // namespace

Result<std::string> StatsEvent(const std::string& id, const TaskStats& stats) {
  return Line(id, "stats", TRY(FiguresOf(stats)).data);
}

Result<std::chrono::milliseconds> ParseGoDuration(std::string_view text) {
  const auto bad = [&] {
    return MakeError(ErrorCode::kInvalidArgument, "\"{}\" is no duration such as 5s or 500ms",
                     text);
  };
  constexpr std::pair<std::string_view, double> kUnits[] = {
      {"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}};
  constexpr double kMax = 1e12;
  double total = 0;
  for (std::string_view rest = text; !rest.empty() || text.empty();) {
    double value = 0;
    const auto result = std::from_chars(rest.data(), rest.data() + rest.size(), value);
    if (result.ec != std::errc() || value < 0) {
      return bad();
    }
    rest.remove_prefix(static_cast<size_t>(result.ptr - rest.data()));
    const auto* unit = std::find_if(std::begin(kUnits), std::end(kUnits), [&](const auto& entry) {
      return rest.starts_with(entry.first);
    });
    if (unit == std::end(kUnits)) {
      return bad();
    }
    rest.remove_prefix(unit->first.size());
    total += value * unit->second;
  }
  if (total < 1 || total > kMax) {
    return bad();
  }
  return std::chrono::milliseconds(static_cast<int64_t>(total));
}

void AddEvents(CLI::App& app, GlobalOptions& globals, Action& action) {
  CLI::App* events = app.add_subcommand("events", "Print what a container uses, as JSON lines.");
  auto id = std::make_shared<std::string>();
  auto once = std::make_shared<bool>(false);
  auto interval = std::make_shared<std::string>("5s");
  events->add_flag("--stats", *once, "Once");
  events->add_option("--interval", *interval, "Time between two lines (default: 5s)")
      ->type_name("DURATION");
  events->add_option("ID", *id, "The container")->required()->type_name("");
  AddGlobalOptions(*events, globals);
  events->callback([&action, id, once, interval] {
    action = EngineAction([id, once, interval](const Engine& engine) -> Status {
      return Events(engine, *id, *once, TRY_AS(ParseGoDuration(*interval), "--interval"));
    });
  });
}

}  // namespace bulkhead::cli
