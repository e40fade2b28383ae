// What an engine writes into config.json is about the host; the guest gets it in its own terms.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "oci/spec.h"
#include "shim/host_namespaces.h"
#include "shim/memory_volume.h"
#include "shim/stand_in.h"

namespace bulkhead::shim {

// What a container is in its pod, by its annotations. One that names no pod is a pod by itself.
struct PodRole {
  enum class Kind { kAlone, kSandbox, kMember } kind = Kind::kAlone;
  std::string sandbox_id;     // kSandbox: its own id
  bool needs_sandbox = true;  // kMember; CRI-O makes no container for most sandboxes
};
// Knows the annotations of containerd's CRI plugin and of CRI-O.
using Annotations = std::map<std::string, std::string>;
Result<PodRole> RoleOf(const Annotations& annotations, const std::string& id);

// Which network namespace of the host the container's stand-in belongs in.
NetworkNamespace HostNetworkOf(const oci::Spec& spec);

// The container of this pod whose stand-in has the pid; "" for the sandbox itself, nullopt: none.
using StandInOwner = std::function<std::optional<std::string>(int pid)>;

// A namespace that is named by a process of the host, which is another container's stand-in.
struct JoinedProcess {
  std::string type;
  std::string path;
  int pid = 0;
};
std::vector<JoinedProcess> JoinedProcesses(const oci::Spec& spec);

// Namespaces: those of the pod (network; ipc and uts that are joined) become the guest's own, a
// joined pid or user namespace the one of the pod or of another container. Each container sees its
// own cgroup alone, also where an engine on a host of cgroup v1 asks for no namespace.
Status TranslateNamespaces(oci::Spec& spec, const StandInOwner& owner,
                           const NamespaceOf& namespace_of);

// Its own IPC namespace is the pod's, where those that ask to join it will be.
void UsePodIpc(oci::Spec& spec);

// Where in the guest the memory is that stands for a file system in the host's.
using SharedMemory =
    std::function<Result<std::string>(const std::string& source, const MemoryVolume& volume)>;

// A bind of the host's shared memory onto /dev/shm, or of a hugetlbfs of the host onto anything:
// memory is shared within the VM, so it becomes the guest's, the same for all that name the same
// source. Pages are kept for a hugetlbfs with a size, unless limits of the container keep some.
// `view` is the mount namespace in which sources are meant; negative: this one.
Status TranslateSharedMemory(oci::Spec& spec, const SharedMemory& share, int view = -1);

// CPU and memory node numbers are the host's; the guest's are others.
void ForgetHostCpus(oci::Resources& resources);

// How large a VM the pod's limits ask for; nothing where they are silent.
struct PodSize {
  std::optional<uint64_t> memory_bytes;
  uint64_t huge_page_bytes = 0;  // beside that memory, as Kubernetes counts
  std::optional<uint32_t> vcpus;
};
Result<PodSize> SizeOf(const oci::Spec& spec);

}  // namespace bulkhead::shim
