#include "oci/features.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace bulkhead::oci {
namespace {

using ::testing::Contains;
using ::testing::SizeIs;

TEST(Features, TellWhatEnginesLookAt) {
  const auto features = nlohmann::json::parse(FeaturesJson("1.2.3", true));
  EXPECT_EQ(features["ociVersionMin"], "1.0.0");
  EXPECT_THAT(features["mountOptions"], Contains("rro"));
  EXPECT_THAT(features["mountOptions"], Contains("rprivate"));
  EXPECT_THAT(features["linux"]["namespaces"], Contains("user"));
  EXPECT_EQ(features["linux"]["mountExtensions"]["idmap"]["enabled"], true);
  EXPECT_THAT(features["hooks"], SizeIs(6));
  EXPECT_FALSE(nlohmann::json::parse(FeaturesJson("1.2.3", false)).contains("hooks"));
}

}  // namespace
}  // namespace bulkhead::oci
