// What the root of a user namespace cannot do for itself in a guest whose root is another, done
// beforehand by that one.
#pragma once

#include "agent/launch.h"
#include "base/result.h"

namespace bulkhead::agent {

// In the process that will clone the one to be made, with all rights of the guest's root. Of a new
// container: in a mount namespace of its own, which the container's becomes a copy of, it binds
// what the container will bind (nobody else need pass the folders on the way), mounts what belongs
// to the guest (sysfs, message queues of the pod) and makes the devices' nodes; the request then
// speaks of those. Of every process: limits that only root may raise, the owner of its pipes.
Status PrepareForUserNamespace(LaunchRequest& request);

// After joining it: its root, of whom nothing is left that the guest's root was.
Status BecomeRootOfUserNamespace();

}  // namespace bulkhead::agent
