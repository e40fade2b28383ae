#include "cli/program_output.h"

#include <fmt/format.h>

#include "base/child.h"
#include "base/sys.h"

namespace bulkhead::cli {

Result<std::string> OutputOf(const std::vector<std::string>& argv) {
  sys::Pipe output = TRY(sys::MakePipe());
  SpawnOptions spawn;
  spawn.argv = argv;
  spawn.fds = {{output.write.get(), 1}};
  Child child = TRY(Child::Spawn(spawn));
  output.write.Reset();
  const bool ready = TRY(sys::PollOne(output.read.get(), /*POLLIN*/ 1, std::chrono::seconds(10)));
  if (!ready) {
    return MakeError(ErrorCode::kDeadlineExceeded, "{} does not answer", fmt::join(argv, " "));
  }
  return sys::ReadFd(output.read.get(), 64U << 10U, argv[0]);
}

}  // namespace bulkhead::cli
