#include "shim/network/netns_watch.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>

#include "shim/network/test_netns.h"

namespace bulkhead::shim {
namespace {

class NetnsWatchTest : public NetnsTest {
 protected:
  void MakeReady() override {
    auto watch = NetnsWatch::Start(netns_->fd(), [this] {
      const std::lock_guard lock(mutex_);
      ++changes_;
      changed_.notify_all();
    });
    ASSERT_TRUE(watch) << watch.error().message();
    watch_ = std::move(*watch);
  }

  // False: nothing new in the time.
  bool Changes(std::chrono::milliseconds timeout) {
    std::unique_lock lock(mutex_);
    const bool some = changed_.wait_for(lock, timeout, [&] { return changes_ > 0; });
    changes_ = 0;
    return some;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  int changes_ = 0;
  std::unique_ptr<NetnsWatch> watch_;
};

constexpr std::chrono::seconds kLong(10);
constexpr std::chrono::milliseconds kQuiet(400);

TEST_F(NetnsWatchTest, TellsOfEachKindOfChange) {
  for (const char* change :
       {"link add d0 type veth peer name d1", "link set d0 up", "address add 10.1.2.3/24 dev d0",
        "route add 10.9.0.0/16 via 10.1.2.1", "-6 address add fd00::1/64 dev d0",
        "rule add priority 7 lookup main", "-6 rule add priority 7 lookup main",
        "rule del priority 7", "neigh add 10.1.2.9 lladdr 02:00:00:00:00:09 nud permanent dev d0",
        "neigh del 10.1.2.9 dev d0", "link delete d0"}) {
    ASSERT_TRUE(netns_->Ip(change)) << change;
    EXPECT_TRUE(Changes(kLong)) << change;
    while (Changes(kQuiet)) {  // what the kernel adds later
    }
  }
}

TEST_F(NetnsWatchTest, TellsNothingOfOtherNamespacesNorAfterItsEnd) {
  auto other = TestNetns::Create();
  ASSERT_TRUE(other);
  ASSERT_TRUE(other->Ip("link add d0 type veth peer name d1"));
  EXPECT_FALSE(Changes(kQuiet));
  watch_.reset();
  ASSERT_TRUE(netns_->Ip("link add d0 type veth peer name d1"));
  EXPECT_FALSE(Changes(kQuiet));
}

}  // namespace
}  // namespace bulkhead::shim
