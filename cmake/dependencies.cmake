# The libraries, as imported targets named bulkhead_dep_*.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(Protobuf REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(CLI11 REQUIRED)
find_program(GRPC_CPP_PLUGIN grpc_cpp_plugin REQUIRED)

# A library as pkg-config tells it; its static form brings the libraries it needs itself.
function(bulkhead_pkg_library name)
  pkg_check_modules(${name} REQUIRED ${ARGN})
  add_library(bulkhead_dep_${name} INTERFACE)
  if(BULKHEAD_STATIC)
    set(libraries ${${name}_STATIC_LIBRARIES})
  else()
    set(libraries ${${name}_LIBRARIES})
  endif()
  # gRPC and absl refer to each other both ways.
  target_link_libraries(bulkhead_dep_${name} INTERFACE
    -Wl,--start-group ${libraries} ${BULKHEAD_${name}_EXTRA} -Wl,--end-group)
  target_include_directories(bulkhead_dep_${name} SYSTEM INTERFACE ${${name}_INCLUDE_DIRS})
endfunction()

if(BULKHEAD_STATIC)
  set(BULKHEAD_grpc_EXTRA upb address_sorting cares re2 z)
endif()
bulkhead_pkg_library(grpc grpc++_unsecure protobuf-lite)
bulkhead_pkg_library(seccomp libseccomp)
bulkhead_pkg_library(cap libcap)

if(BULKHEAD_TESTS)
  find_package(GTest REQUIRED)
endif()
