# bulkhead_library(NAME SOURCES... LINK targets...): a static library of ours, bulkhead_NAME.
function(bulkhead_library name)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  add_library(bulkhead_${name} STATIC ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(bulkhead_${name} PUBLIC ${ARG_LINK})
endfunction()

# The tests that boot no guest, and the fuzzers, each with what they need and nothing else.
add_custom_target(unit_tests)
add_custom_target(fuzzers)

# bulkhead_test(NAME SOURCES... LINK targets...): a GoogleTest program, run by ctest. Always
# dynamic in its use of the test library, like every other target in its own linkage.
function(bulkhead_test name)
  if(NOT BULKHEAD_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  add_executable(${name}_test ${ARG_UNPARSED_ARGUMENTS})
  target_link_libraries(${name}_test PRIVATE ${ARG_LINK} GTest::gmock GTest::gtest_main
                                             Threads::Threads)
  add_test(NAME ${name} COMMAND ${name}_test)
  if(NOT name MATCHES "_vm$")
    add_dependencies(unit_tests ${name}_test)
  endif()
  set_tests_properties(${name} PROPERTIES TIMEOUT 300)
endfunction()

# bulkhead_fuzzer(NAME SOURCE LINK targets...): a libFuzzer program with its corpus folder.
function(bulkhead_fuzzer name source)
  cmake_parse_arguments(ARG "" "" "LINK" ${ARGN})
  add_executable(${name}_fuzz ${source})
  add_dependencies(fuzzers ${name}_fuzz)
  target_compile_options(${name}_fuzz PRIVATE -fsanitize=fuzzer)
  target_link_options(${name}_fuzz PRIVATE -fsanitize=fuzzer)
  target_link_libraries(${name}_fuzz PRIVATE ${ARG_LINK})
endfunction()
