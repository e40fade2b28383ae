// The guest's side of a user-mode network: the same for every container, for nobody else is on it.
// 10.0.2.0/24 is what QEMU and rootless engines have used for long; the IPv6 network is a private
// one ("bulkh").
#pragma once

#include "hypervisor/nic.h"

namespace bulkhead::shim {

inline constexpr char kUserInterface[] = "eth0";
inline constexpr hypervisor::MacAddress kUserMac{0x02, 0x62, 0x75, 0x6c, 0x6b, 0x01};
inline constexpr hypervisor::MacAddress kUserGatewayMac{0x02, 0x62, 0x75, 0x6c, 0x6b, 0x02};

inline constexpr char kUserNetwork4[] = "10.0.2.0";
inline constexpr uint32_t kUserPrefix4 = 24;
inline constexpr char kUserAddress4[] = "10.0.2.15";
inline constexpr char kUserGateway4[] = "10.0.2.2";
inline constexpr char kUserDns4[] = "10.0.2.3";

inline constexpr char kUserNetwork6[] = "fd62:756c:6b68::";
inline constexpr uint32_t kUserPrefix6 = 64;
inline constexpr char kUserAddress6[] = "fd62:756c:6b68::15";
inline constexpr char kUserLinkLocal6[] = "fe80::15";
inline constexpr char kUserGateway6[] = "fd62:756c:6b68::2";
inline constexpr char kUserDns6[] = "fd62:756c:6b68::3";

}  // namespace bulkhead::shim
