#include "shim/agent_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace bulkhead::shim {
namespace {

using ::testing::HasSubstr;

TEST(CheckStats, TakesWhatIsPlausible) {
  pb::ContainerStatsResponse stats;
  EXPECT_TRUE(CheckStats(stats));
  for (int i = 0; i < 4096; ++i) {
    (*stats.mutable_memory())[std::to_string(i)] = 1;
  }
  stats.add_hugetlb()->set_page_size("2MB");
  EXPECT_TRUE(CheckStats(stats));
}

TEST(CheckStats, RefusesWhatIsAbsurd) {
  pb::ContainerStatsResponse stats;
  for (int i = 0; i < 4097; ++i) {
    stats.add_io();
  }
  EXPECT_THAT(CheckStats(stats).error().message(), HasSubstr("4097 entries"));
  stats.Clear();
  for (int i = 0; i < 4097; ++i) {
    (*stats.mutable_memory_events())[std::to_string(i)] = 1;
  }
  EXPECT_EQ(CheckStats(stats).error().code(), ErrorCode::kResourceExhausted);
  stats.Clear();
  (*stats.mutable_cpu())[std::string(257, 'x')] = 1;
  EXPECT_THAT(CheckStats(stats).error().message(), HasSubstr("257 bytes"));
  stats.Clear();
  stats.add_hugetlb()->set_page_size(std::string(300, '9'));
  EXPECT_FALSE(CheckStats(stats));
}

}  // namespace
}  // namespace bulkhead::shim
