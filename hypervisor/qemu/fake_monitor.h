// The other end of a QmpClient, for tests.
#pragma once

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/sys.h"
#include "hypervisor/qemu/qmp_codec.h"

namespace bulkhead::hypervisor::qemu {

inline constexpr const char* kDone = R"({"return":{})";

// A monitor at the other end of a socket: `answer` is called with each command's line and gives the
// answer without its end (the id is added), lines before it, or "" to hang up.
class Monitor {
 public:
  using Answer = std::function<std::string(const std::string& line)>;
  Monitor(UniqueFd socket, Answer answer)
      : socket_(std::move(socket)), answer_(std::move(answer)), thread_([this] { Run(); }) {}
  ~Monitor() { thread_.join(); }
  // For use once the client is gone.
  // The names of the commands that came.
  std::vector<std::string> Commands() const {
    std::vector<std::string> names;
    for (const std::string& line : lines) {
      const size_t at = line.find("\"execute\":\"") + 11;
      names.push_back(line.substr(at, line.find('"', at) - at));
    }
    return names;
  }
  std::vector<std::string> lines;
  std::vector<UniqueFd> files;  // that came along

 private:
  void Run() {
    Say("{\"QMP\":{}}\n");
    LineSplitter splitter;
    for (int id = 0;;) {
      auto message = sys::ReceiveWithFds(socket_.get(), 4096, 1);
      if (!message || message->closed || !splitter.Append(message->data)) {
        return;
      }
      for (UniqueFd& fd : message->fds) {
        files.push_back(std::move(fd));
      }
      while (const auto line = splitter.Next()) {
        const bool hello = line->find("qmp_capabilities") != std::string::npos;
        const std::string answer = hello ? kDone : answer_(*line);
        if (answer.empty()) {
          socket_.Reset();
          return;
        }
        if (!hello) {
          lines.push_back(*line);
        }
        Say(answer + fmt::format(",\"id\":{}}}\n", id++));
      }
    }
  }

  // Not write(2): the client may be gone, and that must not be a SIGPIPE.
  void Say(const std::string& text) { (void)sys::SendWithFds(socket_.get(), text, {}); }

  UniqueFd socket_;
  const Answer answer_;
  std::thread thread_;
};

inline bool Is(const std::string& line, const std::string& command) {
  return line.find("\"execute\":\"" + command + "\"") != std::string::npos;
}

inline std::string Refusal(const std::string& desc, const std::string& name = "GenericError") {
  return fmt::format(R"({{"error":{{"class":"{}","desc":"{}"}})", name, desc);
}

}  // namespace bulkhead::hypervisor::qemu
