#include "shim/inspection_service.h"

#include "inspection.pb.h"

namespace bulkhead::shim {

void RegisterInspectionService(rpc::TtrpcServer& server, Pod& pod) {
  using inspection::v1::InspectRequest;
  server.RegisterMethod<InspectRequest, inspection::v1::Pod>(
      kInspectionService, "Inspect",
      [&pod](const InspectRequest&, const rpc::CallContext&) -> Result<inspection::v1::Pod> {
        return pod.Inspect();
      });
}

}  // namespace bulkhead::shim
