#include "base/result.h"

#include <cerrno>
#include <cstring>

namespace bulkhead {
namespace {

ErrorCode CodeOf(int errnum) {
  switch (errnum) {
    case ENOENT:
    case ESRCH:
      return ErrorCode::kNotFound;
    case EEXIST:
      return ErrorCode::kAlreadyExists;
    case EACCES:
    case EPERM:
      return ErrorCode::kPermissionDenied;
    case ENOMEM:
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
      return ErrorCode::kResourceExhausted;
    case ETIMEDOUT:
      return ErrorCode::kDeadlineExceeded;
    case EINVAL:
    case ENOTDIR:
    case ENAMETOOLONG:
    case ELOOP:
      return ErrorCode::kInvalidArgument;
    case ECONNREFUSED:
    case ECONNRESET:
    case EPIPE:
      return ErrorCode::kUnavailable;
    default:
      return ErrorCode::kInternal;
  }
}

}  // namespace

Error Error::FromErrno(int errnum, std::string_view what) {
  char buffer[128];
  const char* text = strerror_r(errnum, buffer, sizeof(buffer));  // the GNU form
  return {CodeOf(errnum), errnum, fmt::format("{}: {}", what, text)};
}

Error&& Error::Wrap(std::string_view context) && {
  message_.insert(0, fmt::format("{}: ", context));
  return std::move(*this);
}

}  // namespace bulkhead
