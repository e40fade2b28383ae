// What is said to QEMU's monitor, and what comes of its answers.
#include "hypervisor/qemu/drives.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "base/sys.h"
#include "base/temp_dir.h"
#include "hypervisor/qemu/fake_monitor.h"

namespace bulkhead::hypervisor::qemu {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

constexpr const char* kDeleted = R"({"event":"DEVICE_DELETED","data":{"device":"d0","path":"/x"}})";

class DrivesTest : public ::testing::Test {
 protected:
  void Serve(Monitor::Answer answer) {
    sys::SocketPair pair = *sys::MakeSocketPair(SOCK_STREAM);
    monitor_ = std::make_unique<Monitor>(std::move(pair.second), std::move(answer));
    client_ = std::make_unique<QmpClient>(
        std::move(pair.first),
        QmpClient::Handlers{[] {}, [this](const QmpMessage& event) { board_.OnEvent(event); },
                            [this] { board_.OnClosed(); }});
  }
  Status Attach(const std::string& serial) {
    return AttachDrive(board_, *client_, {serial, *sys::Open(path_, O_RDONLY), true});
  }
  Status Detach(const std::string& serial) { return DetachDrive(board_, *client_, serial); }
  // The names of the commands that came, when all is over.
  std::vector<std::string> Commands() {
    client_.reset();
    return monitor_->Commands();
  }
  void SetUp() override { ASSERT_TRUE(sys::WriteFile(path_, "content")); }
  void TearDown() override { client_.reset(); }

  TempDir dir_ = *TempDir::Create("/tmp/drives-test-");
  const std::string path_ = dir_.path() + "/image";
  PlugBoard board_{2, milliseconds(200)};
  std::unique_ptr<Monitor> monitor_;
  std::unique_ptr<QmpClient> client_;
};

TEST_F(DrivesTest, SpeaksToTheMonitor) {
  Serve([](const std::string& line) {
    return Is(line, "device_del") ? std::string(kDeleted) + "\n" + kDone : std::string(kDone);
  });
  ASSERT_TRUE(Attach("one"));
  ASSERT_TRUE(Attach("two"));
  EXPECT_EQ(Attach("one").error().message(), "drive one: the VM has one of this name");
  EXPECT_EQ(Attach("three").error().message(), "drive three: all 2 places of the VM are taken");
  ASSERT_TRUE(Detach("one"));
  EXPECT_EQ(Detach("one").error().message(), "drive one: the VM has none of this name");
  ASSERT_TRUE(Attach("three"));
  EXPECT_THAT(Commands(), ElementsAre("add-fd", "blockdev-add", "remove-fd", "device_add",  // one
                                      "add-fd", "blockdev-add", "remove-fd", "device_add",  // two
                                      "device_del", "blockdev-del",                         // one
                                      "add-fd", "blockdev-add", "remove-fd", "device_add"));
  ASSERT_EQ(monitor_->files.size(), 3U);
  EXPECT_EQ(*sys::ReadFd(monitor_->files[0].get(), 4096, "drive"), "content");
  const auto& lines = monitor_->lines;
  EXPECT_THAT(lines[0], HasSubstr(R"("arguments":{"fdset-id":0})"));
  EXPECT_THAT(lines[1], HasSubstr(R"("driver":"file")"));
  EXPECT_THAT(lines[1], HasSubstr(R"("filename":"/dev/fdset/0")"));
  EXPECT_THAT(lines[1], HasSubstr(R"("read-only":true)"));
  EXPECT_THAT(lines[1], HasSubstr(R"("cache":{"direct":false,"no-flush":false})"));
  EXPECT_THAT(lines[3], HasSubstr(R"("serial":"one")"));
  EXPECT_THAT(lines[3], HasSubstr(R"("addr":"0x0","bus":"plug0")"));
  EXPECT_THAT(lines[3], HasSubstr(R"("werror":"report")"));
  EXPECT_THAT(lines[7], HasSubstr(R"("addr":"0x1","bus":"plug0")"));
  EXPECT_THAT(lines[13], HasSubstr(R"("addr":"0x0","bus":"plug0")"));  // free again
  EXPECT_THAT(lines[13], HasSubstr(R"("id":"d2")"));                   // a new name
}

TEST_F(DrivesTest, FlushesNothingThatEndsWithTheVm) {
  Serve([](const std::string&) { return std::string(kDone); });
  ASSERT_TRUE(AttachDrive(board_, *client_, {"x", sys::Open(path_, O_RDWR).value(), false, true}));
  EXPECT_THAT(Commands(), SizeIs(4));
  EXPECT_THAT(monitor_->lines[1], HasSubstr(R"("cache":{"direct":false,"no-flush":true})"));
}

TEST_F(DrivesTest, UndoesWhatFailed) {
  std::string failing;
  Serve([&](const std::string& line) {
    return Is(line, failing) ? Refusal("no luck") : std::string(kDone);
  });
  failing = "add-fd";
  EXPECT_EQ(Attach("x").error().message(), "drive x: QMP add-fd: no luck");
  failing = "blockdev-add";
  EXPECT_EQ(Attach("x").error().message(), "drive x: QMP blockdev-add: no luck");
  failing = "device_add";
  EXPECT_EQ(Attach("x").error().message(), "drive x: QMP device_add: no luck");
  failing = "none";
  EXPECT_TRUE(Attach("x"));
  EXPECT_THAT(Commands(), ElementsAre("add-fd",                                             //
                                      "add-fd", "blockdev-add", "remove-fd",                //
                                      "add-fd", "blockdev-add", "remove-fd", "device_add",  //
                                      "blockdev-del",                                       //
                                      "add-fd", "blockdev-add", "remove-fd", "device_add"));
}

TEST_F(DrivesTest, SaysNothingOfABadDrive) {
  Serve([](const std::string&) { return std::string(kDone); });
  EXPECT_THAT(AttachDrive(board_, *client_, {"x", UniqueFd(), true}).error().message(),
              StartsWith("drive x: fstat"));
  EXPECT_THAT(Commands(), IsEmpty());
}

TEST_F(DrivesTest, StaysUntilTheGuestLetsGo) {
  int asked = 0;
  Serve([&](const std::string& line) -> std::string {
    if (!Is(line, "device_del")) {
      return kDone;
    }
    switch (++asked) {
      case 1:
        return kDone;  // and no event
      case 2:
        return Refusal("Device d0 is already in the process of unplug");
      default:
        return Refusal("Device 'd0' not found", "DeviceNotFound");
    }
  });
  ASSERT_TRUE(Attach("x"));
  for (int i = 0; i < 2; ++i) {
    const auto detached = Detach("x");
    ASSERT_FALSE(detached);
    EXPECT_EQ(detached.error().code(), ErrorCode::kDeadlineExceeded);
    EXPECT_THAT(detached.error().message(),
                StartsWith("drive x: the guest did not let go of it within 200 ms"));
    EXPECT_EQ(Attach("x").error().code(), ErrorCode::kAlreadyExists);
  }
  EXPECT_TRUE(Detach("x"));
  EXPECT_TRUE(Attach("x"));
}

TEST_F(DrivesTest, OneDetachAtATime) {
  std::string during;
  Serve([&](const std::string& line) {
    if (Is(line, "device_del")) {
      during = Detach("x").error().message();
      return std::string(kDeleted) + "\n" + kDone;
    }
    return std::string(kDone);
  });
  ASSERT_TRUE(Attach("x"));
  EXPECT_TRUE(Detach("x"));
  EXPECT_EQ(during, "drive x: is being detached");
}

TEST_F(DrivesTest, TheEndOfTheVmEndsTheWait) {
  PlugBoard board(1, milliseconds(60000));
  sys::SocketPair pair = *sys::MakeSocketPair(SOCK_STREAM);
  const UniqueFd peer = *sys::Dup(pair.second.get());
  Monitor monitor(std::move(pair.second), [&](const std::string&) { return std::string(kDone); });
  QmpClient client(std::move(pair.first),
                   {[] {}, [](const QmpMessage&) {}, [&] { board.OnClosed(); }});
  ASSERT_TRUE(AttachDrive(board, client, {"x", *sys::Open(path_, O_RDONLY), true}));
  std::thread ender([&] {
    std::this_thread::sleep_for(milliseconds(100));
    ::shutdown(peer.get(), SHUT_RDWR);
  });
  EXPECT_EQ(DetachDrive(board, client, "x").error().message(), "drive x: the VM ended meanwhile");
  ender.join();
  EXPECT_EQ(AttachDrive(board, client, {"y", *sys::Open(path_, O_RDONLY), true}).error().message(),
            "drive y: the VM is gone");
  EXPECT_EQ(DetachDrive(board, client, "x").error().code(), ErrorCode::kUnavailable);
}

TEST_F(DrivesTest, TheEndOfTheVmEndsACommand) {
  Serve([&](const std::string& line) {
    return Is(line, "device_add") ? std::string() : std::string(kDone);
  });
  EXPECT_EQ(Attach("x").error().code(), ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace bulkhead::hypervisor::qemu
