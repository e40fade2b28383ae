// A real guest for the tests: QEMU (TCG will do) with the built kernel and an initramfs that holds
// nothing but the agent. Tests are skipped when the kernel, QEMU or busybox is missing.
#pragma once

#include <agent.grpc.pb.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/child.h"
#include "oci/spec.h"

namespace bulkhead::agent {

namespace wire = ::bulkhead::agent::v1;

std::string EnvOr(const char* name, const char* fallback);
// "ok", or the error's code and message.
std::string Text(const grpc::Status& status);
std::chrono::milliseconds::rep MillisecondsSince(std::chrono::steady_clock::time_point begin);

// What a process wrote and how it ended.
struct Outcome {
  std::string out;
  std::string err;
  size_t out_bytes = 0;
  size_t messages = 0;
  wire::ExitStatus exit;
  grpc::Status status;
};

class Guest {
 public:
  static bool Possible();
  ~Guest();
  bool Boot();
  void Reconnect();

  wire::Agent::Stub& stub() { return *stub_; }
  Child& qemu() { return *qemu_; }
  std::chrono::steady_clock::time_point started() const { return started_; }
  std::string Console() const;
  const std::string& dir() const { return dir_; }
  // The serials of its disks: file systems of these types, whose root is the containers'. Those
  // that this machine can make.
  const std::vector<std::string>& disks() const { return disks_; }

 private:
  bool MakeFiles();
  std::vector<std::string> CommandLine() const;

  std::string dir_;
  std::vector<std::string> disks_;
  std::optional<Child> qemu_;
  std::chrono::steady_clock::time_point started_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<wire::Agent::Stub> stub_;
};

// One guest for all tests of a suite.
class AgentVm : public ::testing::Test {
 protected:
  static void SetUpTestSuite();
  static void TearDownTestSuite();
  void SetUp() override;

  // A container as docker would have it, with busybox.
  static oci::Spec BaseSpec(std::vector<std::string> args);
  static oci::Spec ShellSpec(const std::string& script) { return BaseSpec({"sh", "-c", script}); }
  static wire::ProcessRef Ref(const std::string& id, const std::string& exec = "");

  grpc::Status Create(const std::string& id, const oci::Spec& spec, bool with_stdin = false,
                      const std::vector<wire::Drive>& drives = {});
  grpc::Status Exec(const std::string& id, const std::string& exec, const oci::Process& process);
  grpc::Status Start(const wire::ProcessRef& ref);
  grpc::Status Delete(const wire::ProcessRef& ref);
  grpc::Status Signal(const wire::ProcessRef& ref, int signal, bool all = false);
  wire::ExitStatus Wait(const wire::ProcessRef& ref);
  // Stdio to the end, then the exit status. `input` is sent as credit permits.
  Outcome Communicate(const wire::ProcessRef& ref, std::string input = "", bool keep = true);
  // Create, start, communicate, delete.
  Outcome RunSpec(const std::string& id, const oci::Spec& spec, const std::string& input = "",
                  bool with_stdin = false, bool keep = true);
  Outcome Shell(const std::string& id, const std::string& script) {
    return RunSpec(id, ShellSpec(script));
  }
  // The same in a running container; its output.
  std::string ExecShell(const std::string& id, const std::string& exec, const std::string& script);

  static inline Guest* guest_ = nullptr;
};

}  // namespace bulkhead::agent
