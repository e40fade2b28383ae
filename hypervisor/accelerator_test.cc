#include "hypervisor/accelerator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/sys.h"
#include "base/temp_dir.h"

namespace bulkhead::hypervisor {
namespace {

using ::testing::HasSubstr;

class AcceleratorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    roots_ = {dir_.path() + "/kvm", dir_.path() + "/cpuinfo", dir_.path() + "/modules"};
    ASSERT_TRUE(sys::WriteFile(roots_.dev, ""));
    ASSERT_TRUE(sys::WriteFile(roots_.cpuinfo, "flags\t\t: fpu vmx sse\n"));
    ASSERT_TRUE(sys::Mkdir(roots_.modules));
  }
  TempDir dir_ = *TempDir::Create("/tmp/accelerator-test-");
  ProbeRoots roots_;
};

TEST_F(AcceleratorTest, NamesWhatIsMissing) {
  EXPECT_THAT(ProbeKvm(roots_).explanation, HasSubstr("does not speak KVM's API"));
  ASSERT_TRUE(sys::Mkdir(roots_.modules + "/kvm_pvm"));
  EXPECT_THAT(ProbeKvm(roots_).explanation, HasSubstr("belongs to kvm_pvm"));
  ASSERT_TRUE(sys::WriteFile(roots_.cpuinfo, "flags\t\t: fpu vmxx\n"));
  AcceleratorProbe probe = ProbeKvm(roots_);
  EXPECT_THAT(probe.explanation, HasSubstr("opens, but the CPU shows neither vmx nor svm (kvm_pvm)"
                                           ": an ordinary guest would hang"));
  EXPECT_TRUE(probe.device_opens);
  EXPECT_FALSE(probe.usable);
  roots_.dev += "-none";
  probe = ProbeKvm(roots_);
  EXPECT_THAT(probe.explanation, HasSubstr("kvm-none: No such file or directory (load kvm_intel"));
  EXPECT_FALSE(probe.device_opens);
}

TEST_F(AcceleratorTest, Chooses) {
  sys::Pipe pipe = *sys::MakePipe();
  Logger logger("test", pipe.write.get(), LogFormat::kText, LogLevel::kDebug);
  EXPECT_EQ(*ChooseAccelerator("auto", {true, true, ""}, logger), Accelerator::kKvm);
  EXPECT_EQ(*ChooseAccelerator("tcg", {true, true, ""}, logger), Accelerator::kTcg);
  EXPECT_EQ(*ChooseAccelerator("auto", {false, true, "BECAUSE"}, logger), Accelerator::kTcg);
  EXPECT_EQ(*ChooseAccelerator("kvm", {false, true, "ODD"}, logger), Accelerator::kKvm);
  EXPECT_FALSE(ChooseAccelerator("kvm", {false, false, ""}, logger));
  EXPECT_FALSE(ChooseAccelerator("xen", {true, true, ""}, logger));
  pipe.write.Reset();
  const std::string log = *sys::ReadFd(pipe.read.get(), 10000, "log");
  EXPECT_THAT(log, HasSubstr("BECAUSE"));
  EXPECT_THAT(log, HasSubstr("ODD"));
}

}  // namespace
}  // namespace bulkhead::hypervisor
