// Runs a function when the scope ends, unless dismissed.
#pragma once

#include <utility>

namespace bulkhead {

template <typename F>
class [[nodiscard]] ScopeGuard {
 public:
  explicit ScopeGuard(F function) : function_(std::move(function)) {}
  ScopeGuard(ScopeGuard&&) = delete;
  ScopeGuard(const ScopeGuard&) = delete;
  ScopeGuard& operator=(const ScopeGuard&) = delete;
  ScopeGuard& operator=(ScopeGuard&&) = delete;
  ~ScopeGuard() {
    if (armed_) {
      function_();
    }
  }
  void Dismiss() { armed_ = false; }

 private:
  F function_;
  bool armed_ = true;
};

}  // namespace bulkhead
