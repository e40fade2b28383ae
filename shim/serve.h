// The daemon of one pod: serves the Task API until the pod is over, then removes what the pod had
// on the host.
#pragma once

#include "base/log.h"
#include "base/result.h"
#include "shim/serve_options.h"

namespace bulkhead::shim {

// Ends the process when the pod is over; returns only when it cannot begin.
Status Serve(ServeOptions options, Logger& logger);

}  // namespace bulkhead::shim
