// Errors as values: every fallible function returns Result<T> (or Status when it has no value).
#pragma once

#include <fmt/core.h>

#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <type_traits>
#include <utility>

namespace bulkhead {

// What a caller may want to tell apart. Mapped to gRPC, ttrpc and exit codes in one place each.
enum class ErrorCode {
  kInternal,            // a fault of ours, or of the system with no better name
  kInvalidArgument,     // what the user gave cannot be right
  kNotFound,            // the thing named does not exist
  kAlreadyExists,       // the name is taken
  kFailedPrecondition,  // right request, wrong state
  kPermissionDenied,    // the kernel or a policy said no
  kUnavailable,         // a peer (VM, agent, daemon) is gone
  kDeadlineExceeded,    // a bounded wait ended
  kResourceExhausted,   // no memory, no space, a limit
  kUnimplemented,       // a feature that is not there
  kCommandNotFound,     // the container's command does not exist (exit code 127)
  kCommandNotRunnable,  // it exists and cannot be executed (exit code 126)
};

class [[nodiscard]] Error {
 public:
  Error(ErrorCode code, std::string message) : code_(code), message_(std::move(message)) {}
  Error(ErrorCode code, int errnum, std::string message)
      : code_(code), errnum_(errnum), message_(std::move(message)) {}

  // From an errno value: "<what>: <errno text>", with the code that suits it.
  static Error FromErrno(int errnum, std::string_view what);

  ErrorCode code() const { return code_; }
  int errnum() const { return errnum_; }  // 0 when no system call is at the root of it
  const std::string& message() const { return message_; }

  // Puts "<context>: " before the message: errors carry context as they rise.
  Error&& Wrap(std::string_view context) &&;

 private:
  ErrorCode code_;
  int errnum_ = 0;
  std::string message_;
};

template <typename T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

template <typename... Args>
tl::unexpected<Error> MakeError(ErrorCode code, fmt::format_string<Args...> format,
                                Args&&... args) {
  return tl::unexpected<Error>(Error(code, fmt::format(format, std::forward<Args>(args)...)));
}

// An error from an errno value the caller already holds.
template <typename... Args>
tl::unexpected<Error> MakeErrno(int errnum, fmt::format_string<Args...> format, Args&&... args) {
  return tl::unexpected<Error>(
      Error::FromErrno(errnum, fmt::format(format, std::forward<Args>(args)...)));
}

namespace internal {

// The value of a Result that holds one; nothing for a Status.
template <typename T>
T TakeValue(Result<T>&& result) {
  if constexpr (!std::is_void_v<T>) {
    return std::move(*result);
  }
}

}  // namespace internal
}  // namespace bulkhead

// A name of its own for each use, so that a TRY may stand inside another.
#define BULKHEAD_CONCAT_(a, b) a##b
#define BULKHEAD_CONCAT(a, b) BULKHEAD_CONCAT_(a, b)
#define BULKHEAD_TRY_(result, expression, error)        \
  (__extension__({                                      \
    auto result = (expression);                         \
    if (!result) {                                      \
      return tl::unexpected<::bulkhead::Error>(error);  \
    }                                                   \
    ::bulkhead::internal::TakeValue(std::move(result)); \
  }))
#define BULKHEAD_TRY_PLAIN_(result, expression) \
  BULKHEAD_TRY_(result, expression, std::move(result).error())
#define BULKHEAD_TRY_AS_(result, expression, ...) \
  BULKHEAD_TRY_(result, expression, std::move(result).error().Wrap(fmt::format(__VA_ARGS__)))

// Evaluates to the value of a Result, or returns its error from the calling function.
#define TRY(expression) BULKHEAD_TRY_PLAIN_(BULKHEAD_CONCAT(try_result_, __COUNTER__), expression)

// TRY, with context put before the error's message (a fmt format and its arguments).
#define TRY_AS(expression, ...) \
  BULKHEAD_TRY_AS_(BULKHEAD_CONCAT(try_result_, __COUNTER__), expression, __VA_ARGS__)
