// The parts that need no QEMU: arguments, codec, client, console, reasons.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "base/sys.h"
#include "hypervisor/host.h"
#include "hypervisor/qemu/command_line.h"
#include "hypervisor/qemu/console_log.h"
#include "hypervisor/qemu/qmp_client.h"
#include "hypervisor/qemu/virtiofsd.h"
#include "hypervisor/qemu/vm_exit.h"

namespace bulkhead::hypervisor::qemu {
namespace {

using std::chrono::milliseconds;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(CommandLine, EscapesAndNamesFds) {
  VmConfig config;
  config.name = "a,b";
  config.qemu = "/q";
  config.firmware = "qboot.rom";
  config.accelerator = Accelerator::kTcg;
  config.memory_bytes = (256U << 20U) + 1;
  config.kernel_parameters = "x=1";
  config.shares = {{"t", "/p,q", ShareConfig::Transport::kNineP}, {"v", "/v", {}}};
  QemuFds fds{3, 4, 5, 6, 7, -1, {-1, 9}, {{"net one", "one"}, {"net two", "two"}}};
  const auto argv = QemuArguments(config, fds, {0, 2500000});
  EXPECT_THAT(argv, Contains("a,,b,process=a,,b"));
  EXPECT_THAT(argv, Contains("257M"));
  EXPECT_THAT(argv, Contains("/proc/self/fd/5"));
  EXPECT_THAT(argv, Contains(HasSubstr("path=/p,,q")));
  EXPECT_THAT(argv, Contains("socket,id=fs1,fd=9"));
  const std::vector<std::string> nics{"-netdev", "net one", "-device", "one",
                                      "-netdev", "net two", "-device", "two"};
  EXPECT_NE(std::search(argv.begin(), argv.end(), nics.begin(), nics.end()), argv.end());
  EXPECT_THAT(argv, Contains("max,-erms,-fsrm"));
  EXPECT_THAT(argv, Not(Contains(HasSubstr("vmgenid"))));
  EXPECT_THAT(argv.back(), HasSubstr(" quiet "));
  EXPECT_THAT(argv.back(), HasSubstr(" swiotlb=noforce "));
  EXPECT_THAT(argv.back(),
              HasSubstr("tsc_early_khz=2500000 noreplace-smp bulkhead.channel=serial:agent x=1"));
  config.channel = AgentChannel::kVsock;
  config.accelerator = Accelerator::kKvm;
  config.verbose_console = true;
  fds.vsock = 8;
  const auto kvm = QemuArguments(config, fds, {77, 2500000});
  EXPECT_THAT(kvm, Contains("vhost-vsock-pci,guest-cid=77,vhostfd=8"));
  EXPECT_THAT(kvm, Contains("host"));
  EXPECT_THAT(kvm.back(), HasSubstr("bulkhead.channel=vsock:1024"));
  EXPECT_THAT(kvm.back(), Not(HasSubstr("quiet")));
}

TEST(CommandLine, MakesPlugPlaces) {
  VmConfig config;
  const auto bridges = [&](uint32_t slots) {
    config.hotplug_slots = slots;
    const auto argv = QemuArguments(config, {}, {});
    return std::count_if(argv.begin(), argv.end(),
                         [](const auto& word) { return word.starts_with("pci-bridge,"); });
  };
  EXPECT_EQ(bridges(0), 0);
  EXPECT_EQ(bridges(1), 1);
  EXPECT_EQ(bridges(31), 1);
  EXPECT_EQ(bridges(64), 3);
  const auto argv = QemuArguments(config, {}, {});
  EXPECT_THAT(argv, Contains("pci-bridge,id=plug2,chassis_nr=3,shpc=off"));
  EXPECT_THAT(argv, Contains("pvpanic-pci,events=0,bus=plug2,addr=0x1f"));
  EXPECT_EQ(PlugPlace(0), R"("bus":"plug0","addr":"0x0")");
  EXPECT_EQ(PlugPlace(30), R"("bus":"plug0","addr":"0x1e")");
  EXPECT_EQ(PlugPlace(31), R"("bus":"plug1","addr":"0x0")");
}

TEST(QmpCodec, Parses) {
  EXPECT_EQ(ParseQmpMessage(R"({"QMP":{}})")->kind, QmpMessage::Kind::kGreeting);
  EXPECT_EQ(ParseQmpMessage(R"({"return":{"a":1},"id":7})")->text, R"({"a":1})");
  EXPECT_EQ(ParseQmpMessage(R"({"return":{},"id":7})")->id, 7U);
  EXPECT_EQ(ParseQmpMessage(R"({"error":{"class":"C","desc":"D"}})")->text, "D");
  const auto event =
      ParseQmpMessage(R"({"event":"SHUTDOWN","data":{"guest":true,"reason":"guest-shutdown"}})");
  EXPECT_TRUE(ParseQmpShutdown(event->text)->by_guest);
  EXPECT_EQ(*ParseQmpDeviceDeleted(R"({"device":"d1","path":"/machine/peripheral/d1"})"), "d1");
  EXPECT_EQ(*ParseQmpDeviceDeleted(R"({"path":"/machine/peripheral/d1/x"})"), "");
  EXPECT_EQ(*ParseQmpDeviceDeleted(R"({"device":7})"), "");
  EXPECT_FALSE(ParseQmpDeviceDeleted("[]"));
  for (const char* bad : {"", "1", "[", "{}", R"({"event":3})", R"({"error":"x"})"}) {
    EXPECT_FALSE(ParseQmpMessage(bad)) << bad;
  }
  EXPECT_FALSE(FormatQmpCommand(1, "a", "[]"));
}

TEST(QmpCodec, SplitsLines) {
  LineSplitter splitter;
  ASSERT_TRUE(splitter.Append("ab"));
  EXPECT_FALSE(splitter.Next());
  ASSERT_TRUE(splitter.Append("c\r\nd\ne"));
  EXPECT_EQ(splitter.Next(), "abc");
  EXPECT_EQ(splitter.Next(), "d");
  EXPECT_FALSE(splitter.Next());
  EXPECT_FALSE(splitter.Append(std::string(LineSplitter::kMaxLine, 'x')));
}

TEST(QmpClient, Talks) {
  sys::SocketPair pair = *sys::MakeSocketPair(SOCK_STREAM);
  std::thread server([peer = std::move(pair.second)] {
    const auto read = [&] { return sys::ReceiveWithFds(peer.get(), 4096, 0)->data; };
    (void)sys::WriteAll(peer.get(), "{\"QMP\":{}}\r\n");
    EXPECT_THAT(read(), HasSubstr("qmp_capabilities"));
    (void)sys::WriteAll(peer.get(), "{\"return\":{},\"id\":0}\n{\"event\":\"E\"}\n");
    (void)read();
    (void)sys::WriteAll(peer.get(), "{\"return\":{\"x\":2},\"id\":1}\n");
    (void)read();
    (void)sys::WriteAll(peer.get(), "{\"error\":{\"desc\":\"no\"},\"id\":2}\n");
    (void)read();  // the third gets no answer, the fourth finds it closed
    (void)read();
  });
  std::string events;
  QmpClient client(std::move(pair.first),
                   {[] {}, [&](const QmpMessage& event) { events += event.name; }});
  EXPECT_EQ(*client.Execute("a", "", milliseconds(5000)), R"({"x":2})");
  EXPECT_EQ(client.Execute("b", "{}", milliseconds(5000)).error().message(), "QMP b: no");
  EXPECT_EQ(client.Execute("c", "", milliseconds(20)).error().code(), ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(client.Execute("d", "", milliseconds(5000)).error().code(), ErrorCode::kUnavailable);
  EXPECT_TRUE(client.WaitClosed(milliseconds(5000)));
  EXPECT_EQ(events, "E");
  server.join();
}

TEST(Console, FindsThePanic) {
  ConsoleText text;
  text.Append("[ 0.1] Kernel panic - not sync");
  text.Append("ing: No init\x1b\r\n---[ end Kernel panic - not syncing: x\n");
  EXPECT_EQ(text.panic(), "Kernel panic - not syncing: No init?");
  text.Append(std::string(300000, 'y'));
  EXPECT_EQ(text.Tail(), std::string(ConsoleText::kMaxText, 'y'));
  EXPECT_THAT(text.panic(), HasSubstr("No init"));
}

TEST(Console, ThePanicNamesItsCause) {
  ConsoleText text;
  text.Append("[    1.8] Kernel BUG at super+0x1a/0x1c [x]\nBUG: second\n");
  text.Append("[    1.8] Kernel panic - not syncing: Fatal exception\n");
  text.Append("BUG: late\n");
  EXPECT_EQ(text.panic(),
            "Kernel panic - not syncing: Fatal exception (Kernel BUG at super+0x1a/0x1c [x])");
}

TEST(Virtiofsd, KnowsBothPrograms) {
  EXPECT_EQ(FlavorFromHelp("--shared-dir <DIR>"), VirtiofsdFlavor::kRust);
  EXPECT_EQ(FlavorFromHelp("-o source=PATH"), VirtiofsdFlavor::kC);
  EXPECT_THAT(VirtiofsdArguments("v", VirtiofsdFlavor::kC, "/a,b", 3), Contains("source=/a\\,b"));
  EXPECT_THAT(VirtiofsdArguments("v", VirtiofsdFlavor::kRust, "/a,b", 3), Contains("/a,b"));
  EXPECT_THAT(VirtiofsdArguments("v", VirtiofsdFlavor::kRust, "/a", 3), Contains("--posix-acl"));
  EXPECT_THAT(VirtiofsdArguments("v", VirtiofsdFlavor::kC, "/a", 3),
              Contains(HasSubstr(",posix_acl,")));
}

TEST(VmExit, GivesTheFirstCause) {
  ExitFacts facts;
  facts.exit.signal = 9;
  EXPECT_EQ(DescribeExit(facts).reason, "QEMU was killed by signal 9 (Killed)");
  facts.last_words = "qemu: no";
  EXPECT_EQ(DescribeExit(facts).reason, "QEMU was killed by signal 9 (Killed): qemu: no");
  facts.killed = true;
  EXPECT_EQ(DescribeExit(facts).reason, "the VM was killed on request");
  facts.daemon = "virtiofsd died";
  EXPECT_EQ(DescribeExit(facts).reason, "virtiofsd died");
  facts.panic = "P";
  EXPECT_EQ(DescribeExit(facts).reason, "the guest kernel panicked: P");
  ExitFacts off;
  off.shutdown = {true, "guest-shutdown"};
  EXPECT_TRUE(DescribeExit(off).orderly);
}

TEST(Host, ReadsMemory) {
  EXPECT_EQ(MemTotalBytes("MemTotal:   12 kB\nMemFree: 3 kB\n"), 12288U);
  EXPECT_EQ(MemTotalBytes("x"), 0U);
}

}  // namespace
}  // namespace bulkhead::hypervisor::qemu
