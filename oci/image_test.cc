#include "oci/image.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>

#include "base/sys.h"
#include "oci/tar_test_util.h"

namespace bulkhead::oci {
namespace {

using test::Compress;
using test::LayoutBuilder;
using test::MakeDockerArchive;
using test::MakeTar;
using test::TarOfFolder;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

// Runs `body` in a process of its own; 0 is success, 77 means that it cannot run here.
int InChild(const std::function<int()>& body) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::_exit(body());
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

class ImageTest : public testing::Test {
 protected:
  ImageTest()
      : base_(MakeTar(
            {{.name = "etc/", .type = '5', .mode = 0755}, {.name = "etc/name", .data = "base"}})),
        top_(MakeTar({{.name = "hello", .data = "hi", .mode = 0755}})) {}

  void SetUp() override {
    if (::geteuid() != 0) {
      GTEST_SKIP() << "needs root: layers have owners";
    }
  }
  std::string CachePath() const { return scratch_.path() + "/cache"; }
  LayerCache Cache() const { return *LayerCache::Open(CachePath()); }
  Result<UnpackedImage> Open(const std::string& path, const std::string& ref = "") {
    OpenImageOptions options;
    options.ref = ref;
    return OpenImage(path, Cache(), options);
  }
  std::string ErrorOf(const std::string& path, const std::string& ref = "") {
    const auto result = Open(path, ref);
    return result ? "no error" : result.error().message();
  }
  std::string WriteFile(const std::string& name, const std::string& content) const {
    std::string path = scratch_.path() + "/" + name;
    EXPECT_TRUE(sys::WriteFile(path, content));
    return path;
  }
  std::vector<std::string> CacheFolder(const std::string& name) const {
    return sys::ListDirectory(CachePath() + "/" + name).value_or(std::vector<std::string>{});
  }
  void ExpectCacheEmpty() const {
    EXPECT_THAT(CacheFolder("layers"), IsEmpty());
    EXPECT_THAT(CacheFolder("tmp"), IsEmpty());
    EXPECT_THAT(CacheFolder("index"), IsEmpty());
  }
  void ExpectGood(const Result<UnpackedImage>& image) const {
    ASSERT_TRUE(image) << image.error().message();
    ASSERT_THAT(image->layers, SizeIs(2));
    EXPECT_EQ(*sys::ReadFile(image->layers[0] + "/etc/name"), "base");
    EXPECT_EQ(*sys::ReadFile(image->layers[1] + "/hello"), "hi");
    EXPECT_THAT(image->config.cmd, ElementsAre("/hello"));
    EXPECT_THAT(CacheFolder("tmp"), IsEmpty());
  }

  const TempDir scratch_ = *TempDir::Create("/tmp/image_test-");
  const std::string base_;
  const std::string top_;
  LayoutBuilder layout_;
};

TEST_F(ImageTest, LayoutFolder) {
  for (const char* compression : {"", "gzip", "zstd"}) {
    layout_.AddImage({.layer_tars = {base_, top_}, .compression = compression});
    ASSERT_TRUE(RemoveTree(CachePath()));
    const auto image = Open(layout_.path());
    ExpectGood(image);
    EXPECT_EQ(image->digest, layout_.manifest_digest);
    EXPECT_THAT(image->config.env, ElementsAre("A=b"));
    ExpectGood(Open(layout_.path()));
  }
}

TEST_F(ImageTest, DockerMediaTypes) {
  layout_.AddImage({.layer_tars = {base_, top_},
                    .layer_media_type = "application/vnd.docker.image.rootfs.diff.tar.gzip",
                    .config_media_type = "application/vnd.docker.container.image.v1+json"});
  ExpectGood(Open(layout_.path()));
}

TEST_F(ImageTest, LayoutArchives) {
  layout_.AddImage({.layer_tars = {base_, top_}});
  const std::string tar = TarOfFolder(layout_.path());
  for (const char* method : {"", "gzip", "zstd", "xz"}) {
    ASSERT_TRUE(RemoveTree(CachePath()));
    const std::string path = WriteFile("image.tar", Compress(tar, method));
    const auto image = Open(path);
    ExpectGood(image);
    EXPECT_EQ(image->digest, layout_.manifest_digest);
    EXPECT_THAT(CacheFolder("index"), SizeIs(1));
  }
}

TEST_F(ImageTest, DockerArchives) {
  const std::string tar = MakeDockerArchive({{{"app:1"}, {base_, top_}}});
  for (const char* method : {"", "gzip"}) {
    ASSERT_TRUE(RemoveTree(CachePath()));
    ExpectGood(Open(WriteFile("image.tar", Compress(tar, method))));
  }
}

TEST_F(ImageTest, UnpackedDockerArchive) {
  const std::string tar = WriteFile("x.tar", MakeDockerArchive({{{"app:1"}, {base_, top_}}}));
  ASSERT_TRUE(sys::Mkdir(scratch_.path() + "/saved"));
  ASSERT_EQ(std::system(fmt::format("tar -C {0}/saved -xf {0}/x.tar", scratch_.path()).c_str()), 0);
  ExpectGood(Open(scratch_.path() + "/saved"));
}

// Old versions of docker save link layers that are the same; new ones have both forms.
TEST_F(ImageTest, DockerArchiveWithLinkedLayers) {
  const std::string config =
      fmt::format(R"({{"os":"linux","rootfs":{{"type":"layers","diff_ids":["{0}","{1}","{0}"]}}}})",
                  DigestOf(base_).ToString(), DigestOf(top_).ToString());
  const std::string path = WriteFile(
      "image.tar", MakeTar({{.name = "a/layer.tar", .data = base_},
                            {.name = "b/layer.tar", .data = top_},
                            {.name = "c/layer.tar", .type = '2', .link = "../a/layer.tar"},
                            {.name = "hard", .type = '1', .link = "b/layer.tar"},
                            {.name = "manifest.json",
                             .data = R"([{"Config":"config","RepoTags":null,)"
                                     R"("Layers":["a/layer.tar","hard","c/layer.tar"]}])"},
                            {.name = "config", .data = config}}));
  const auto image = Open(path);
  ASSERT_TRUE(image) << image.error().message();
  // overlayfs refuses a folder named twice: only the upper one counts.
  EXPECT_THAT(image->layers,
              ElementsAre(Cache().LayerPath(DigestOf(top_)), Cache().LayerPath(DigestOf(base_))));
}

TEST_F(ImageTest, OpaqueRootHidesAllBelow) {
  const std::string opaque = MakeTar({{.name = ".wh..wh..opq"}, {.name = "x", .data = "y"}});
  layout_.AddImage({.layer_tars = {base_, opaque, top_}});
  const auto image = Open(layout_.path());
  ASSERT_TRUE(image) << image.error().message();
  EXPECT_THAT(image->layers,
              ElementsAre(Cache().LayerPath(DigestOf(opaque)), Cache().LayerPath(DigestOf(top_))));
}

TEST_F(ImageTest, WarmArchiveIsNotReadAgain) {
  layout_.AddImage({.layer_tars = {base_, top_}});
  const std::string path = WriteFile("image.tar", TarOfFolder(layout_.path()));
  ExpectGood(Open(path));
  int reports = 0;
  OpenImageOptions options;
  options.progress = [&](const ImageProgress&) { ++reports; };
  ExpectGood(OpenImage(path, Cache(), options));
  EXPECT_EQ(reports, 0);
  // A layer that went away is unpacked anew.
  ASSERT_TRUE(RemoveTree(Cache().LayerPath(DigestOf(top_))));
  ExpectGood(OpenImage(path, Cache(), options));
  EXPECT_EQ(reports, 1);
  // Another content under the same name is another image.
  layout_.AddImage({.layer_tars = {top_}});
  WriteFile("image.tar", TarOfFolder(layout_.path()));
  EXPECT_THAT(Open(path)->layers, SizeIs(1));
}

TEST_F(ImageTest, ProgressEndsWithTheWholeLayer) {
  layout_.AddImage({.layer_tars = {base_, top_}});
  std::vector<ImageProgress> reports;
  OpenImageOptions options;
  options.progress = [&](const ImageProgress& progress) { reports.push_back(progress); };
  ASSERT_TRUE(OpenImage(layout_.path(), Cache(), options));
  ASSERT_THAT(reports, SizeIs(2));
  EXPECT_EQ(reports[1].layer, 1U);
  EXPECT_EQ(reports[1].layers, 2U);
  EXPECT_EQ(reports[1].done, reports[1].total);
  EXPECT_GT(reports[1].total, 0U);
}

TEST_F(ImageTest, SeveralImages) {
  layout_.WriteIndex({layout_.AddManifest({.layer_tars = {base_}, .name = "one"}),
                      layout_.AddManifest({.layer_tars = {base_, top_}, .name = "two"})});
  EXPECT_THAT(ErrorOf(layout_.path()),
              HasSubstr("it holds several images; name one as PATH:NAME: one, two"));
  EXPECT_THAT(ErrorOf(layout_.path(), "three"), HasSubstr("no image \"three\"; there is one, two"));
  ExpectCacheEmpty();
  EXPECT_THAT(Open(layout_.path(), "one")->layers, SizeIs(1));
  ExpectGood(Open(layout_.path(), "two"));
  ExpectGood(Open(layout_.path(), layout_.manifest_digest));

  const std::string path =
      WriteFile("image.tar",
                MakeDockerArchive({{{"a/x:1", "a/x:latest"}, {base_}}, {{"y:2"}, {base_, top_}}}));
  EXPECT_THAT(ErrorOf(path), HasSubstr("a/x:1, a/x:latest, y:2"));
  EXPECT_THAT(ErrorOf(path, "z"), HasSubstr("no image \"z\"; there is a/x:1"));
  EXPECT_THAT(Open(path, "docker.io/a/x")->layers, SizeIs(1));
  ExpectGood(Open(path, "2"));
}

TEST_F(ImageTest, SeveralPlatforms) {
  const std::string arm =
      layout_.AddManifest({.layer_tars = {base_},
                           .architecture = "arm64",
                           .platform = R"({"os":"linux","architecture":"arm64"})"});
  const std::string amd = layout_.AddManifest(
      {.layer_tars = {base_, top_}, .platform = R"({"os":"linux","architecture":"amd64"})"});
  const std::string v3 =
      layout_.AddManifest({.layer_tars = {top_},
                           .platform = R"({"os":"linux","architecture":"amd64","variant":"v3"})"});
  const std::string attestation = fmt::format(
      R"({{"digest":"{}","size":1,"platform":{{"os":"unknown","architecture":"unknown"}},)"
      R"("annotations":{{"vnd.docker.reference.type":"attestation-manifest"}}}})",
      layout_.manifest_digest);
  layout_.WriteIndex({layout_.AddIndex({attestation, arm, v3, amd})});
  ExpectGood(Open(layout_.path()));
  layout_.WriteIndex({arm, attestation, amd});
  ExpectGood(Open(layout_.path()));
  layout_.WriteIndex({layout_.AddIndex({attestation, arm})});
  EXPECT_THAT(ErrorOf(layout_.path()), HasSubstr("no image for linux/amd64; there is linux/arm64"));
  layout_.WriteIndex({attestation});
  EXPECT_THAT(ErrorOf(layout_.path()), HasSubstr("it holds no image"));
  layout_.AddImage({.layer_tars = {base_}, .architecture = "arm64"});
  EXPECT_THAT(ErrorOf(layout_.path()), HasSubstr("for linux/arm64, not for linux/amd64"));
  std::string nested = amd;
  for (int i = 0; i < 5; ++i) {
    nested = layout_.AddIndex({nested});
  }
  layout_.WriteIndex({nested});
  EXPECT_THAT(ErrorOf(layout_.path()), HasSubstr("nested deeper"));
}

TEST_F(ImageTest, DamagedLayouts) {
  layout_.AddImage({.layer_tars = {base_, top_}});
  const std::string layer = layout_.BlobPath(layout_.layer_digests[0]);
  const std::string good = *sys::ReadFile(layer);
  std::string damaged = good;
  damaged[damaged.size() - 12] ^= 1;
  ASSERT_TRUE(sys::WriteFile(layer, damaged));
  EXPECT_THAT(ErrorOf(layout_.path()), HasSubstr("layer 1 of 2"));
  ExpectCacheEmpty();
  ASSERT_TRUE(sys::WriteFile(layer, good.substr(0, good.size() / 2)));
  EXPECT_THAT(ErrorOf(layout_.path()), HasSubstr("as the manifest says"));
  ASSERT_TRUE(sys::Unlink(layer));
  EXPECT_THAT(ErrorOf(layout_.path()), HasSubstr("is missing"));
  ExpectCacheEmpty();
  const std::string config = layout_.BlobPath(layout_.config_digest);
  ASSERT_TRUE(sys::WriteFile(config, *sys::ReadFile(config) + " "));
  EXPECT_THAT(ErrorOf(layout_.path()), HasSubstr("does not match its digest"));
  ASSERT_TRUE(sys::Unlink(layout_.BlobPath(layout_.manifest_digest)));
  EXPECT_THAT(ErrorOf(layout_.path()), HasSubstr("is missing"));
  ASSERT_TRUE(sys::WriteFile(layout_.path() + "/index.json", "{"));
  EXPECT_THAT(ErrorOf(layout_.path()), HasSubstr("index.json: not JSON"));
  ExpectCacheEmpty();
}

TEST_F(ImageTest, WrongMediaTypes) {
  layout_.AddImage({.layer_tars = {base_},
                    .layer_media_type = "application/vnd.oci.image.layer.v1.tar+encrypted"});
  EXPECT_THAT(ErrorOf(layout_.path()), HasSubstr("+encrypted\" is not supported"));
  layout_.AddImage({.layer_tars = {base_}, .config_media_type = "application/vnd.cncf.helm"});
  EXPECT_THAT(ErrorOf(layout_.path()), HasSubstr("not a container image"));
  layout_.AddImage({.layer_tars = {}});
  EXPECT_THAT(ErrorOf(layout_.path()), HasSubstr("no layers"));
  ExpectCacheEmpty();
}

TEST_F(ImageTest, DamagedArchives) {
  layout_.AddImage({.layer_tars = {base_, top_}});
  const std::string tar = TarOfFolder(layout_.path());
  const std::string gzip = Compress(tar, "gzip");
  EXPECT_NE(ErrorOf(WriteFile("a.tar", tar.substr(0, tar.size() / 3))), "no error");
  EXPECT_THAT(ErrorOf(WriteFile("b.tar", gzip.substr(0, gzip.size() / 2))),
              HasSubstr("decompressing the archive"));
  const std::string root = MakeTar({{.name = "bin/sh", .data = "x"}});
  EXPECT_THAT(ErrorOf(WriteFile("c.tar", root)), HasSubstr("no index.json (OCI layout)"));
  std::string docker = MakeDockerArchive({{{"x:1"}, {base_}}});
  docker[docker.find("base")] = 'B';
  EXPECT_THAT(ErrorOf(WriteFile("d.tar", docker)), HasSubstr("does not match its digest"));
  ExpectCacheEmpty();
}

TEST_F(ImageTest, HostileDockerNames) {
  for (const char* name : {"../../../../etc/passwd", "/etc/passwd", "none"}) {
    const std::string manifest = fmt::format(R"([{{"Config":"{}","Layers":[]}}])", name);
    EXPECT_NE(ErrorOf(WriteFile("x.tar", MakeTar({{.name = "manifest.json", .data = manifest}}))),
              "no error");
    ASSERT_TRUE(sys::MkdirAll(scratch_.path() + "/folder"));
    ASSERT_TRUE(sys::WriteFile(scratch_.path() + "/folder/manifest.json", manifest));
    EXPECT_THAT(ErrorOf(scratch_.path() + "/folder"),
                testing::AnyOf(HasSubstr("not a name inside the image"), HasSubstr("missing")));
  }
  ExpectCacheEmpty();
}

TEST_F(ImageTest, Detect) {
  const std::string empty = scratch_.path() + "/empty";
  ASSERT_TRUE(sys::Mkdir(empty));
  EXPECT_THAT(DetectImage(empty).error().message(), HasSubstr("is an empty folder: an image is"));
  EXPECT_THAT(DetectImage(WriteFile("zero", "")).error().message(), HasSubstr("is an empty file"));
  EXPECT_THAT(DetectImage(WriteFile("text", "hello")).error().message(),
              HasSubstr("is not a tar archive: an image is"));
  const auto missing = DetectImage(scratch_.path() + "/none");
  EXPECT_EQ(missing.error().code(), ErrorCode::kNotFound);
  EXPECT_THAT(missing.error().message(), HasSubstr("no such file or folder"));
  EXPECT_THAT(DetectImage("/dev/null").error().message(), HasSubstr("neither a file nor a folder"));
  EXPECT_EQ(*DetectImage(WriteFile("a.tar", base_)), ImageKind::kArchive);
  EXPECT_EQ(*DetectImage(WriteFile("a.tgz", Compress(base_, "gzip"))), ImageKind::kArchive);
  EXPECT_THAT(DetectImage(layout_.path()).error().message(), HasSubstr("without index.json"));
  layout_.AddImage({.layer_tars = {base_}});
  EXPECT_EQ(*DetectImage(layout_.path()), ImageKind::kLayoutFolder);
  ASSERT_TRUE(sys::MkdirAll(empty + "/bin"));
  EXPECT_EQ(*DetectImage(empty), ImageKind::kRootfs);
  EXPECT_THAT(ErrorOf(empty), HasSubstr("is a root file system, not an image"));
}

// As a user without rights, in a process of its own.
TEST_F(ImageTest, DetectWhatCannotBeRead) {
  ASSERT_TRUE(sys::Chmod(scratch_.path(), 0755));
  const std::string file = WriteFile("a.tar", base_);
  const std::string folder = scratch_.path() + "/secret";
  ASSERT_TRUE(sys::Chmod(file, 0600));
  ASSERT_TRUE(sys::Mkdir(folder, 0700));
  EXPECT_EQ(InChild([&] {
              if (::setgid(65534) != 0 || ::setuid(65534) != 0) {
                return 1;
              }
              for (const std::string& path : {file, folder, folder + "/x"}) {
                const auto kind = DetectImage(path);
                if (kind || kind.error().code() != ErrorCode::kPermissionDenied ||
                    !kind.error().message().starts_with("image") ||
                    kind.error().message().find(path) == std::string::npos) {
                  return 2;
                }
              }
              return 0;
            }),
            0);
}

TEST_F(ImageTest, Arguments) {
  const std::string file = WriteFile("a.tar", "x");
  const std::string odd = WriteFile("b:1", "x");
  EXPECT_EQ(ParseImageArgument(file).ref, "");
  EXPECT_EQ(ParseImageArgument(file + ":tag").path, file);
  EXPECT_EQ(ParseImageArgument(file + ":tag").ref, "tag");
  EXPECT_EQ(ParseImageArgument(file + ":docker.io/x/y:1").ref, "docker.io/x/y:1");
  EXPECT_EQ(ParseImageArgument(odd).path, odd);
  EXPECT_EQ(ParseImageArgument("none:tag").path, "none:tag");
  EXPECT_EQ(ParseImageArgument(":").path, ":");
  EXPECT_EQ(ParseImageArgument("").path, "");
}

TEST_F(ImageTest, FullDisk) {
  std::string noise;
  for (uint64_t i = 0; i < 200'000; ++i) {
    noise += DigestOf(std::to_string(i)).hex.substr(0, 20);
  }
  layout_.AddImage({.layer_tars = {MakeTar({{.name = "big", .data = noise}})}});
  const std::string archive =
      WriteFile("image.tar.gz", Compress(TarOfFolder(layout_.path()), "gzip"));
  ASSERT_TRUE(sys::Mkdir(scratch_.path() + "/small"));
  const auto body = [&] {
    const std::string small = scratch_.path() + "/small";
    if (!sys::Unshare(CLONE_NEWNS) || !sys::Mount("", "/", "", MS_REC | MS_PRIVATE) ||
        !sys::Mount("tmpfs", small, "tmpfs", 0, "size=1m")) {
      return 77;
    }
    for (const std::string& image : {layout_.path(), archive}) {
      const auto result = OpenImage(image, *LayerCache::Open(small + "/cache"));
      if (result || result.error().code() != ErrorCode::kResourceExhausted ||
          result.error().message().find("No space left on device") == std::string::npos) {
        return 1;
      }
      if (!sys::ListDirectory(small + "/cache/tmp")->empty() ||
          !sys::ListDirectory(small + "/cache/layers")->empty()) {
        return 2;
      }
    }
    return 0;
  };
  const int code = InChild(body);
  if (code == 77) {
    GTEST_SKIP() << "needs the right to mount a tmpfs";
  }
  EXPECT_EQ(code, 0);
}

TEST_F(ImageTest, ProcessesShareTheWork) {
  (void)Cache();
  const Digest id = DigestOf(base_);
  const std::string log = WriteFile("log", "");
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i) {
    children.push_back(::fork());
    if (children.back() == 0) {
      const auto got = Cache().Get(id, [&](const std::string& folder) -> Status {
        const UniqueFd file = TRY(sys::Open(log, O_WRONLY | O_APPEND));
        TRY(sys::WriteAll(file.get(), "filled\n"));
        ::usleep(100'000);
        return sys::WriteFile(folder + "/done", "x");
      });
      ::_exit(got && sys::Exists(*got + "/done") ? 0 : 1);
    }
  }
  for (const pid_t pid : children) {
    int status = -1;
    ::waitpid(pid, &status, 0);
    EXPECT_EQ(status, 0);
  }
  EXPECT_EQ(*sys::ReadFile(log), "filled\n");
  EXPECT_THAT(CacheFolder("tmp"), IsEmpty());
}

TEST_F(ImageTest, KilledUnpackIsSweptByTheNext) {
  (void)Cache();
  const Digest id = DigestOf(base_);
  const sys::Pipe pipe = *sys::MakePipe();
  const pid_t pid = ::fork();
  if (pid == 0) {
    (void)Cache().Get(id, [&](const std::string& folder) -> Status {
      TRY(sys::WriteFile(folder + "/half", "x"));
      TRY(sys::WriteAll(pipe.write.get(), "x"));
      ::pause();
      return {};
    });
    ::_exit(1);
  }
  ASSERT_TRUE(*sys::PollOne(pipe.read.get(), POLLIN, std::chrono::seconds(10)));
  (void)Cache();  // its maker lives: not swept
  EXPECT_THAT(CacheFolder("tmp"), SizeIs(1));
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  EXPECT_THAT(CacheFolder("tmp"), SizeIs(1));
  EXPECT_FALSE(Cache().Has(id));
  EXPECT_THAT(CacheFolder("tmp"), IsEmpty());
  layout_.AddImage({.layer_tars = {base_, top_}});
  ExpectGood(Open(layout_.path()));
}

}  // namespace
}  // namespace bulkhead::oci
