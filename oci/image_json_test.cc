#include "oci/image_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "oci/digest.h"

namespace bulkhead::oci {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(DigestTest, Parse) {
  const std::string hex(64, 'a');
  EXPECT_EQ(Digest::Parse("sha256:" + hex)->FileName(), "sha256-" + hex);
  EXPECT_TRUE(Digest::Parse("sha512:" + hex + hex));
  EXPECT_THAT(Digest::Parse("md5:" + hex).error().message(), HasSubstr("\"md5\" is not supported"));
  for (const std::string& bad :
       {std::string(), std::string("sha256:"), "sha256:" + hex + "a", "sha256:" + hex.substr(1),
        "sha256:../" + hex.substr(3), "sha256:" + std::string(64, 'A'), hex}) {
    EXPECT_FALSE(Digest::Parse(bad)) << bad;
  }
  EXPECT_EQ(DigestOf("abc").hex,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(ImageJsonTest, DockerForms) {
  const auto config = ParseImageConfig(R"({
      "architecture": "amd64", "os": "linux", "container_config": 1,
      "config": {"Env": null, "Entrypoint": "/one", "Cmd": null, "User": "app:staff",
                 "WorkingDir": "/srv", "Labels": null, "Volumes": {"/data": {}},
                 "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGINT"},
      "rootfs": {"type": "layers", "diff_ids": []}})");
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_THAT(config->entrypoint, ElementsAre("/one"));
  EXPECT_EQ(config->user, "app:staff");
  EXPECT_EQ(config->working_dir, "/srv");
  EXPECT_EQ(config->stop_signal, "SIGINT");
  EXPECT_THAT(config->volumes, ElementsAre("/data"));
  EXPECT_THAT(config->exposed_ports, ElementsAre("80/tcp"));
}

TEST(ImageJsonTest, WhatIsRefused) {
  const auto config_error = [](std::string_view json) {
    const auto result = ParseImageConfig(json);
    return result ? "no error" : result.error().message();
  };
  EXPECT_EQ(config_error(""), "not JSON");
  EXPECT_EQ(config_error("[]"), "expected an object");
  EXPECT_EQ(config_error("{}"), "rootfs: expected an object");
  EXPECT_EQ(config_error(R"({"os":1})"), "os: expected a string");
  EXPECT_EQ(config_error(R"({"config":{"Env":[1]}})"), "config: Env: expected an array of strings");
  EXPECT_EQ(config_error(std::string(40, '[')), "nested deeper than 32 levels");
  EXPECT_THAT(config_error(std::string(5U << 20U, ' ')), HasSubstr("longer than the limit"));
  std::string many;
  for (int i = 0; i < 501; ++i) {
    many += (many.empty() ? "\"" : ",\"") + DigestOf("x").ToString() + "\"";
  }
  EXPECT_THAT(config_error(R"({"rootfs":{"type":"layers","diff_ids":[)" + many + "]}}"),
              HasSubstr("501 layers; at most 500"));
  EXPECT_THAT(ParseIndexOrManifest(R"({"schemaVersion":1})").error().message(),
              HasSubstr("schema 1"));
  EXPECT_THAT(ParseIndexOrManifest(R"({"manifests":[{"size":-1}]})").error().message(),
              HasSubstr("manifests[0]: size: expected a number of bytes"));
}

}  // namespace
}  // namespace bulkhead::oci
