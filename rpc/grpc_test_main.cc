// main of tests that use gRPC. In a static program its threads and its statics do not survive each
// other at exit, so the process ends without running destructors.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  const int result = RUN_ALL_TESTS();
#ifdef BULKHEAD_STATIC
  std::fflush(nullptr);
  ::_exit(result);
#else
  return result;
#endif
}
