// A question to the name server that Docker keeps in the pod's network namespace: 127.0.0.11, whose
// port 53 a rule of the namespace leads to the port it listens at. Nothing else is ever asked.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace bulkhead::shim {

// Whether there is such a server in the namespace: somebody has a UDP socket at that address.
Result<bool> HasNameServer(int netns);

class NameQuestion {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds kPatience{10};
  static constexpr size_t kHeaderBytes = 12;  // a message of DNS has no less

  // `message`: without the length that TCP puts before it. Does not wait for anything.
  static Result<NameQuestion> Ask(int netns, bool tcp, std::string message,
                                  Clock::duration patience = kPatience);

  int fd() const { return socket_.get(); }
  short events() const;  // of poll(2), to be waited for
  Clock::time_point deadline() const { return deadline_; }
  // Goes on without waiting. nullopt: no answer yet. Empty: none will come. Where nobody listens,
  // that is answered: SERVFAIL.
  std::optional<std::string> Advance();

 private:
  NameQuestion(UniqueFd socket, bool tcp, std::string message, Clock::duration patience)
      : socket_(std::move(socket)),
        tcp_(tcp),
        message_(std::move(message)),
        deadline_(Clock::now() + patience) {}
  std::optional<std::string> AdvanceUdp();
  std::optional<std::string> AdvanceTcp();
  // What the last error of the socket means.
  std::optional<std::string> Failure() const;

  UniqueFd socket_;
  bool tcp_;
  std::string message_;
  bool refused_ = false;  // at once
  size_t sent_ = 0;       // TCP: of the length and the message
  std::string answer_;    // TCP: so much of its length and message
  Clock::time_point deadline_;
};

}  // namespace bulkhead::shim
