#include "base/user_namespace.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "base/sys.h"

namespace bulkhead {
namespace {

// Runs `body` in a child within the namespace; what it returns is the exit code.
int Inside(const UniqueFd& user, int (*body)()) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::_exit(::setns(user.get(), CLONE_NEWUSER) == 0 ? body() : 99);
  }
  int status = -1;
  EXPECT_EQ(::waitpid(pid, &status, 0), pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(UserNamespace, MapsIds) {
  if (::geteuid() != 0) {
    GTEST_SKIP() << "needs root";
  }
  const auto user = MakeUserNamespace("0 100000 10\n20 200000 1\n", "0 300000 10\n");
  ASSERT_TRUE(user) << user.error().message();
  EXPECT_EQ(Inside(*user, [] { return ::setresuid(20, 20, 20) == 0 ? 0 : 1; }), 0);
  EXPECT_EQ(Inside(*user, [] { return ::setresuid(10, 10, 10) == 0 ? 0 : 1; }), 1);
  EXPECT_EQ(Inside(*user, [] { return ::setresgid(9, 9, 9) == 0 ? 0 : 1; }), 0);
  EXPECT_EQ(Inside(*user,
                   [] {
                     const auto map = sys::ReadFile("/proc/self/uid_map");
                     return map && map->find("200000") != std::string::npos ? 0 : 1;
                   }),
            0);
}

TEST(UserNamespace, LeavesNoProcess) {
  if (::geteuid() != 0) {
    GTEST_SKIP() << "needs root";
  }
  std::thread([] {
    ASSERT_TRUE(MakeUserNamespace("0 1 1", "0 1 1"));
    ASSERT_FALSE(MakeUserNamespace("0 1 1\n0 2 1\n", "0 1 1"));
  }).join();
  EXPECT_EQ(::waitpid(-1, nullptr, __WALL | WNOHANG), -1);
}

TEST(UserNamespace, TellsWhatTheKernelRefuses) {
  if (::geteuid() != 0) {
    GTEST_SKIP() << "needs root";
  }
  const auto user = MakeUserNamespace("0 1 1", "5 1 1\n5 9 1\n");
  ASSERT_FALSE(user);
  EXPECT_NE(user.error().message().find("gid_map"), std::string::npos) << user.error().message();
  EXPECT_EQ(user.error().errnum(), EINVAL);
}

}  // namespace
}  // namespace bulkhead
