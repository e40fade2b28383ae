#include "shim/fd_store.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/sys.h"
#include "base/temp_dir.h"

namespace bulkhead::shim {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

class FdStoreTest : public testing::Test {
 protected:
  void Open(FdStore::Limits limits) {
    store_ = *FdStore::Serve(*sys::ListenUnix(socket_, 0600), logger_, limits);
  }
  // The other end of what was handed over.
  UniqueFd Give(const std::string& token) {
    sys::Pipe pipe = *sys::MakePipe();
    EXPECT_TRUE(HandOverFds(socket_, token, {{"out", pipe.write.get()}}));
    return std::move(pipe.read);
  }
  // All copies of the write end are closed.
  static bool Closed(const UniqueFd& read) {
    return *sys::PollOne(read.get(), POLLIN, milliseconds(10'000));
  }

  static constexpr short POLLIN = 1;
  const TempDir folder_ = *TempDir::Create("/tmp/fd-store-test-");
  const std::string socket_ = folder_.path() + "/fds.sock";
  Logger logger_{"test", -1, LogFormat::kText, LogLevel::kError};
  std::unique_ptr<FdStore> store_;
};

TEST_F(FdStoreTest, GivesEachFileOnce) {
  Open({});
  const UniqueFd read = Give("t");
  EXPECT_FALSE(store_->Take("t", "in"));
  EXPECT_FALSE(store_->Take("u", "out"));
  UniqueFd fd = *store_->Take("fd://t/out");
  ASSERT_TRUE(sys::WriteAll(fd.get(), "x"));
  EXPECT_FALSE(store_->Take("t", "out"));
  EXPECT_EQ(store_->size(), 0U);
  EXPECT_FALSE(store_->Take("fd://t"));
  EXPECT_FALSE(store_->Take("file:///t/out"));
}

TEST_F(FdStoreTest, HoldsSoManySetsAndNoLonger) {
  Open({2, milliseconds(600'000)});
  const UniqueFd first = Give("a");
  const UniqueFd second = Give("b");
  const UniqueFd third = Give("c");
  EXPECT_TRUE(Closed(first));
  EXPECT_FALSE(store_->Take("a", "out"));
  EXPECT_TRUE(store_->Take("b", "out"));
}

TEST_F(FdStoreTest, ClosesWhatNobodyAsksFor) {
  Open({64, milliseconds(50)});
  const UniqueFd read = Give("a");
  EXPECT_TRUE(Closed(read));
  EXPECT_EQ(store_->size(), 0U);
}

TEST_F(FdStoreTest, RefusesWhatIsNotNamed) {
  Open({});
  const UniqueFd connection = *sys::ConnectUnix(socket_);
  const int fd = connection.get();
  ASSERT_TRUE(sys::SendWithFds(connection.get(), "token", std::span(&fd, 1)));
  EXPECT_THAT(sys::ReceiveWithFds(connection.get(), 1000, 0)->data, HasSubstr("does not name"));
  EXPECT_EQ(store_->size(), 0U);
}

TEST_F(FdStoreTest, TheEndClosesAll) {
  Open({});
  const UniqueFd read = Give("a");
  store_.reset();
  EXPECT_TRUE(Closed(read));
}

TEST(NonblockingCopy, LeavesTheFlagsOfOthersAlone) {
  sys::Pipe pipe = *sys::MakePipe();
  const UniqueFd copy = *NonblockingCopy(*sys::Dup(pipe.read.get()), O_RDONLY);
  EXPECT_NE(::fcntl(copy.get(), F_GETFL) & O_NONBLOCK, 0);
  EXPECT_EQ(::fcntl(pipe.read.get(), F_GETFL) & O_NONBLOCK, 0);
}

TEST(NonblockingCopy, KeepsThePlaceInAFile) {
  const UniqueFd file = *sys::MemFd("x");
  ASSERT_TRUE(sys::WriteAll(file.get(), "one"));
  const UniqueFd copy = *NonblockingCopy(*sys::Dup(file.get()), O_WRONLY);
  ASSERT_TRUE(sys::WriteAll(copy.get(), "two"));
  std::array<std::byte, 6> text{};
  ASSERT_EQ(*sys::ReadAt(file.get(), text, 0), 6U);
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(text.data()), 6), "onetwo");
}

}  // namespace
}  // namespace bulkhead::shim
