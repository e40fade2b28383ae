// A pod's virtual machine: its boot, its network, the news it gives.
#include <fcntl.h>
#include <poll.h>

#include <array>

#include "base/sys.h"
#include "shim/pod.h"

namespace bulkhead::shim {
namespace {

constexpr std::chrono::milliseconds kEventPause(50);
constexpr uint64_t kMemoryStep = 2U << 20U;

}  // namespace

Result<SandboxRequest> Pod::SizeSandbox(const Config& config, const oci::Spec& spec) const {
  const PodSize size = TRY(SizeOf(spec));
  SandboxRequest request;
  request.name = options_.id;
  request.hostname = spec.hostname.empty() ? "bulkhead" : spec.hostname;
  request.vcpus = size.vcpus.value_or(config.vcpus);
  request.memory_bytes =
      size.memory_bytes ? *size.memory_bytes + config.memory_overhead_bytes : config.memory_bytes;
  request.memory_bytes += size.huge_page_bytes;
  request.memory_bytes = (request.memory_bytes + kMemoryStep - 1) / kMemoryStep * kMemoryStep;
  request.hotplug_slots = options_.for_engine ? config.hotplug_slots
                                              : (config.upper == "block" ? 1 : 0) +
                                                    (options_.user_network != nullptr ? 1 : 0);
  request.shared_path = options_.folder + "/shared";
  request.runtime_dir = options_.folder;
  return request;
}

Result<Sandbox> Pod::RunningSandbox() const {
  const std::lock_guard lock(mutex_);
  if (!sandbox_.agent) {
    return MakeError(ErrorCode::kFailedPrecondition, "the pod has no virtual machine yet");
  }
  return sandbox_;
}

Result<Sandbox> Pod::EnsureSandbox(const oci::Spec& spec, const std::string& id) {
  const std::lock_guard booting(boot_mutex_);
  if (auto running = RunningSandbox()) {
    return running;
  }
  Sandbox sandbox = TRY(BootSandbox(spec, id));
  stop_watching_ = TRY(sys::EventFd());
  const std::lock_guard lock(mutex_);
  if (shut_down_) {
    return MakeError(ErrorCode::kUnavailable, "the pod was shut down");
  }
  sandbox_ = sandbox;
  vm_watch_ = std::thread([this] { WatchVm(); });
  event_reader_ = std::thread([this] { ReadEvents(); });
  FollowNetwork(sandbox);
  return sandbox;
}

Status Pod::OpenNetwork(const Config& config, const oci::Spec& spec, const std::string& id) {
  if (!options_.for_engine || HostNetworkOf(spec).kind == NetworkNamespace::Kind::kHost) {
    return {};
  }
  UniqueFd netns = TRY(sys::Open(fmt::format("/proc/{}/ns/net", PidOfStandIn({id, ""})), O_RDONLY));
  const NetworkModel model =
      config.network_model == "macvtap" ? NetworkModel::kMacvtap : NetworkModel::kTrafficControl;
  auto network = PodNetwork::Open(std::move(netns), model, logger_);
  if (!network && network.error().code() == ErrorCode::kInvalidArgument) {
    logger_.Warning(network.error().message());
    return {};
  }
  std::shared_ptr<PodNetwork> opened = TRY(std::move(network));
  const std::lock_guard lock(mutex_);
  network_ = std::move(opened);
  return {};
}

Status Pod::RefreshNetwork(const Sandbox& sandbox) {
  const std::lock_guard lock(network_mutex_);
  if (!network_) {
    return {};
  }
  const pb::Network wanted = TRY(network_->Refresh(*sandbox.vm));
  for (const std::string& name : TRY(sandbox.agent->SetNetwork(wanted))) {
    logger_.Warning(
        fmt::format("/proc/sys/net/{} of the pod's network namespace is {}: the guest's "
                    "kernel does not take that",
                    name, wanted.sysctls().at(name)));
  }
  RelayNames(sandbox);
  return {};
}

std::shared_ptr<PodNetwork> Pod::Network() const {
  const std::lock_guard lock(mutex_);
  return network_;
}

Status Pod::CheckNetwork(const Process& init) {
  const auto network = Network();
  if (!network) {
    return {};
  }
  // A kubelet promises each pod an interface; others may have wanted none.
  if (IsPause(init) && network->IsBare()) {
    logger_.Warning(
        "the pod has no network: there is no interface in its network namespace (has the CNI "
        "plugin run?)");
  }
  return network->CheckCarried();
}

// A pod that does not hear of changes has the network it began with.
void Pod::FollowNetwork(const Sandbox& sandbox) {
  if (!network_) {
    return;
  }
  auto watch =
      NetnsWatch::Start(network_->netns(), [this, sandbox, said = std::string()]() mutable {
        const Status told = RefreshNetwork(sandbox);
        const std::string now = told ? "" : told.error().message();
        if (!told && !sandbox.vm->Exit() && now != said) {  // what fails again is said once
          logger_.Warning("a change of the pod's network does not reach it: " + now);
        }
        said = now;
      });
  if (!watch) {
    logger_.Warning("changes of the pod's network do not reach it: " + watch.error().message());
    return;
  }
  network_watch_ = std::move(*watch);
}

// Docker starts its name server before it makes the first interface that needs it. A pod without it
// is a pod that knows addresses only.
void Pod::RelayNames(const Sandbox& sandbox) {
  const auto wanted = names_ ? false : HasNameServer(network_->netns());
  if (wanted && !*wanted) {
    return;
  }
  auto netns = wanted ? sys::Dup(network_->netns()) : tl::unexpected(wanted.error());
  auto relay = netns ? NameRelay::Start(std::move(*netns), sandbox.agent, logger_)
                     : tl::unexpected(netns.error());
  if (!relay) {
    logger_.Warning("the engine's names (127.0.0.11) are not resolved in this pod: " +
                    relay.error().message());
    return;
  }
  names_ = std::move(*relay);
  relays_names_ = true;
  if (const Status admitted = network_->AdmitAnswers(); !admitted) {
    logger_.Warning("names that the engine asks others for are not resolved in this pod: " +
                    admitted.error().message());
  }
}

// A pod without it is a pod: the engine's own attempt to forward fails, then.
void Pod::ForwardPorts(const Sandbox& sandbox) {
  if (!network_) {
    return;
  }
  auto listener = LoopbackListener::Open(network_->netns());
  auto forwarder = listener ? PortForwarder::Start(std::move(*listener), sandbox.agent, logger_)
                            : tl::unexpected(listener.error());
  if (!forwarder) {
    logger_.Warning("no port forwarding to this pod: " + forwarder.error().message());
    return;
  }
  forwarder_ = std::move(*forwarder);
  forwards_ports_ = true;
}

Result<Sandbox> Pod::BootSandbox(const oci::Spec& spec, const std::string& id) {
  const Config config = TRY(ApplyAnnotations(config_, spec.annotations));
  SandboxRequest request = TRY(SizeSandbox(config, spec));
  TRY(OpenNetwork(config, spec, id));
  if (network_) {
    request.nics = [this, vcpus = request.vcpus] { return network_->BootNics(vcpus); };
  } else if (options_.user_network != nullptr) {
    request.nics = [this] { return options_.user_network->BootNics(); };
  }
  if (!shared_) {
    TRY(sys::MkdirAll(request.shared_path, 0700));
    const bool by_root = FindVirtiofsd(config).empty();  // as 9p does
    shared_.emplace(TRY(SharedTree::Create(request.shared_path, by_root)));
  }
  Sandbox sandbox =
      TRY(StartSandbox(config, request, {spawner_, logger_, timeline_}, options_.debug));
  if (options_.user_network != nullptr) {
    options_.user_network->Confine(sandbox.vm->pid());
    (void)TRY(sandbox.agent->SetNetwork(options_.user_network->Describe()));
  }
  TRY(RefreshNetwork(sandbox));
  ForwardPorts(sandbox);
  return sandbox;
}

inspection::v1::Pod Pod::Inspect() {
  inspection::v1::Pod out;
  out.set_id(options_.id);
  if (const auto sandbox = RunningSandbox()) {
    const hypervisor::VmConfig& config = sandbox->config;
    auto& vm = *out.mutable_vm();
    vm.set_driver(config_.driver);
    vm.set_accelerator(config.accelerator == hypervisor::Accelerator::kKvm ? "kvm" : "tcg");
    vm.set_agent_channel(config.channel == hypervisor::AgentChannel::kVsock ? "vsock"
                                                                            : "virtio-serial");
    vm.set_pid(sandbox->vm->pid());
    vm.set_vcpus(config.vcpus);
    vm.set_memory_bytes(config.memory_bytes);
  }
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, container] : containers_) {
      out.add_containers(id);
    }
  }
  out.mutable_network()->set_kind("none");
  if (options_.user_network != nullptr && out.has_vm()) {
    *out.mutable_network() = options_.user_network->Inspect();
  }
  if (const auto network = Network()) {
    *out.mutable_network() = network->Inspect();
    out.mutable_network()->set_forwards_ports(forwards_ports_);
    out.mutable_network()->set_relays_names(relays_names_);
  }
  return out;
}

// Processes in the guest notice its end by themselves; the pod's own pause does not.
void Pod::WatchVm() {
  const Sandbox sandbox = *RunningSandbox();
  std::array<pollfd, 2> events{pollfd{sandbox.vm->exit_fd(), POLLIN, 0},
                               pollfd{stop_watching_.get(), POLLIN, 0}};
  while (::poll(events.data(), events.size(), -1) <= 0) {
  }
  std::vector<std::shared_ptr<Process>> inits;
  {
    const std::lock_guard lock(mutex_);
    vm_over_ = true;
    for (const auto& [id, container] : containers_) {
      if (const auto init = container.processes.find(""); init != container.processes.end()) {
        inits.push_back(init->second);
      }
    }
  }
  const Error error = Explain({ErrorCode::kUnavailable, "the pod was shut down"});
  for (const auto& init : inits) {
    if (auto* pause = dynamic_cast<PauseProcess*>(init.get())) {
      pause->End(error);
    }
  }
}

void Pod::ReadEvents() {
  const auto stream = RunningSandbox()->agent->OpenEvents(events_context_);
  pb::Event event;
  while (stream->Read(&event)) {
    if (event.kind() == pb::Event::OOM && StateOf(event.container_id())) {
      events_.Oom(event.container_id());
      // A guest that cries without end shall not drown the engine.
      std::this_thread::sleep_for(kEventPause);
    }
  }
}

}  // namespace bulkhead::shim
