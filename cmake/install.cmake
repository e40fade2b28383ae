# What `make install` (cmake --install) puts where. The programs look for their data beside their
# own folder (bin/../share/bulkhead, bin/../etc/bulkhead), so the tree may be moved as a whole.
set(CMAKE_INSTALL_MESSAGE LAZY)  # says only what it changes
set(BULKHEAD_DATADIR ${CMAKE_INSTALL_DATADIR}/bulkhead)
set(BULKHEAD_DOCDIR ${CMAKE_INSTALL_DATADIR}/doc/bulkhead)

install(PROGRAMS ${CMAKE_BINARY_DIR}/cli/bulkhead
                 ${CMAKE_BINARY_DIR}/shim/containerd-shim-bulkhead-v2
        DESTINATION ${CMAKE_INSTALL_BINDIR})
# Made by kernel-config/build and rootfs/build.
install(FILES ${CMAKE_SOURCE_DIR}/build/kernel/vmlinux ${CMAKE_SOURCE_DIR}/build/guest.img
        DESTINATION ${BULKHEAD_DATADIR})
install(FILES ${CMAKE_SOURCE_DIR}/README.md ${CMAKE_SOURCE_DIR}/LICENSE
              ${CMAKE_SOURCE_DIR}/docs/cli.md ${CMAKE_SOURCE_DIR}/docs/containerd.md
              ${CMAKE_SOURCE_DIR}/docs/compatibility.md ${CMAKE_SOURCE_DIR}/docs/configuration.md
              ${CMAKE_SOURCE_DIR}/docs/networking.md
              ${CMAKE_SOURCE_DIR}/docs/spec-coverage.md
              ${CMAKE_SOURCE_DIR}/docs/storage.md
        DESTINATION ${BULKHEAD_DOCDIR})
install(FILES ${CMAKE_SOURCE_DIR}/packaging/config.toml
        DESTINATION ${BULKHEAD_DOCDIR} RENAME config.toml.example)

# The configuration is the administrator's: one that is there is never overwritten. The prefix is
# known only now, at install time.
install(CODE "set(config_toml [[${CMAKE_SOURCE_DIR}/packaging/config.toml]])")
install(CODE [[
  set(sysconfdir "$ENV{BULKHEAD_SYSCONFDIR}")
  if(sysconfdir STREQUAL "")
    if(CMAKE_INSTALL_PREFIX STREQUAL "/usr")
      set(sysconfdir "/etc")
    else()
      set(sysconfdir "${CMAKE_INSTALL_PREFIX}/etc")
    endif()
  endif()
  if(NOT EXISTS "$ENV{DESTDIR}${sysconfdir}/bulkhead/config.toml")
    file(INSTALL "${config_toml}" DESTINATION "${sysconfdir}/bulkhead")
  endif()
]])
