#include "oci/layer.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <locale.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>

#include "base/scope_guard.h"
#include "base/sys.h"
#include "base/temp_dir.h"
#include "oci/tar_test_util.h"

namespace bulkhead::oci {
namespace {

using test::Compress;
using test::MakeTar;
using test::TarItem;
using testing::HasSubstr;
using testing::IsEmpty;

class LayerTest : public testing::Test {
 protected:
  // Unpacks a blob of the given content into folder().
  Result<std::vector<std::string>> UnpackBlob(const std::string& blob, const Digest& diff_id,
                                              std::optional<Digest> digest = std::nullopt) {
    const UniqueFd file = *sys::MemFd("layer");
    EXPECT_TRUE(sys::WriteAll(file.get(), blob));
    return UnpackLayer({file.get(), 0, blob.size(), std::move(digest), diff_id}, folder());
  }
  Result<std::vector<std::string>> Unpack(const std::vector<TarItem>& items,
                                          const std::string& compression = "") {
    const std::string tar = MakeTar(items);
    return UnpackBlob(Compress(tar, compression), DigestOf(tar));
  }
  std::string ErrorOf(const std::vector<TarItem>& items) {
    const auto result = Unpack(items);
    return result ? "no error" : result.error().message();
  }
  std::string folder() const { return outside_.path() + "/layer"; }
  std::string Path(const std::string& name) const { return folder() + "/" + name; }
  struct stat StatOf(const std::string& name) const {
    const auto info = sys::LStat(Path(name));
    EXPECT_TRUE(info) << name;
    return info ? *info : (struct stat){};
  }
  std::string Content(const std::string& name) const {
    const auto content = sys::ReadFile(Path(name));
    return content ? *content : content.error().message();
  }
  bool IsWhiteout(const std::string& name) const {
    const struct stat info = StatOf(name);
    return S_ISCHR(info.st_mode) && info.st_rdev == 0;
  }
  bool IsOpaque(const std::string& name) const {
    return *sys::LGetXattr(Path(name), "trusted.overlay.opaque") == "y";
  }
  // What is beside the layer's folder: the victim file, and nothing else.
  void ExpectOutsideUntouched() {
    EXPECT_THAT(*sys::ListDirectory(outside_.path()), testing::ElementsAre("layer", "victim"));
    EXPECT_EQ(*sys::ReadFile(outside_.path() + "/victim"), "precious");
    EXPECT_EQ(sys::LStat(outside_.path() + "/victim")->st_nlink, 1U);
  }

  void SetUp() override {
    if (::geteuid() != 0) {
      GTEST_SKIP() << "needs root: layers have owners, devices and overlay's attributes";
    }
    ASSERT_TRUE(sys::Mkdir(folder()));
    ASSERT_TRUE(sys::WriteFile(outside_.path() + "/victim", "precious"));
  }

  const TempDir outside_ = *TempDir::Create("/tmp/layer_test-");
};

TEST_F(LayerTest, EveryCompression) {
  for (const char* method : {"", "gzip", "zstd", "xz", "bzip2"}) {
    ASSERT_TRUE(Unpack({{.name = "dir/", .type = '5', .mode = 0755},
                        {.name = "dir/file", .data = std::string(100'000, 'x')}},
                       method))
        << method;
    EXPECT_EQ(Content("dir/file"), std::string(100'000, 'x')) << method;
  }
}

TEST_F(LayerTest, EmptyLayer) {
  ASSERT_TRUE(Unpack({}));
  EXPECT_THAT(*sys::ListDirectory(folder()), IsEmpty());
}

TEST_F(LayerTest, LeadingSlashAndDotAreStripped) {
  ASSERT_TRUE(Unpack({{.name = "/a", .data = "1"}, {.name = "./b", .data = "2"}}));
  EXPECT_EQ(Content("a"), "1");
  EXPECT_EQ(Content("b"), "2");
}

TEST_F(LayerTest, OwnershipModesAndTimes) {
  ASSERT_TRUE(Unpack({
      {.name = "./", .type = '5', .mode = 0711, .mtime = 100},
      {.name = "tmp/", .type = '5', .mode = 01777, .uid = 1, .gid = 2, .mtime = 200},
      {.name = "tmp/su", .data = "x", .mode = 04755, .uid = 1000, .gid = 2000, .mtime = 300},
      {.name = "tmp/sg", .data = "x", .mode = 02755, .uid = 3, .gid = 4},
      {.name = "tmp/link", .type = '2', .link = "/nowhere", .uid = 5, .gid = 6, .mtime = 400},
  }));
  EXPECT_EQ(StatOf(".").st_mode, S_IFDIR | 0711U);
  EXPECT_EQ(StatOf(".").st_mtime, 100);
  EXPECT_EQ(StatOf("tmp").st_mode, S_IFDIR | 01777U);
  EXPECT_EQ(StatOf("tmp").st_mtime, 200);
  EXPECT_EQ(StatOf("tmp").st_gid, 2U);
  EXPECT_EQ(StatOf("tmp/su").st_mode, S_IFREG | 04755U);
  EXPECT_EQ(StatOf("tmp/su").st_uid, 1000U);
  EXPECT_EQ(StatOf("tmp/su").st_gid, 2000U);
  EXPECT_EQ(StatOf("tmp/su").st_mtime, 300);
  EXPECT_EQ(StatOf("tmp/sg").st_mode, S_IFREG | 02755U);
  EXPECT_EQ(StatOf("tmp/link").st_uid, 5U);
  EXPECT_EQ(StatOf("tmp/link").st_mtime, 400);
}

TEST_F(LayerTest, WhiteoutsAndOpaqueDirectories) {
  ASSERT_TRUE(Unpack({
      {.name = "a/", .type = '5', .mode = 0755, .mtime = 500},
      {.name = "a/.wh.gone"},
      {.name = "b/", .type = '5', .mode = 0755},
      {.name = "b/.wh..wh..opq"},
      {.name = "b/new", .data = "n"},
      {.name = ".wh..wh.plnk/x"},
      {.name = ".wh..wh.aufs"},
  }));
  EXPECT_TRUE(IsWhiteout("a/gone"));
  EXPECT_EQ(StatOf("a").st_mtime, 500);
  EXPECT_TRUE(IsOpaque("b"));
  EXPECT_FALSE(IsOpaque("a"));
  EXPECT_EQ(Content("b/new"), "n");
  EXPECT_FALSE(sys::LStat(Path(".wh..wh.aufs")));
}

// A whiteout hides lower layers only: what the same layer has stays, in either order.
TEST_F(LayerTest, WhiteoutBesideItsReplacement) {
  ASSERT_TRUE(Unpack({
      {.name = "f", .data = "kept"},
      {.name = ".wh.f"},
      {.name = "d/", .type = '5', .mode = 0755},
      {.name = ".wh.d"},
      {.name = ".wh.e"},
      {.name = "e/", .type = '5', .mode = 0755},
      {.name = ".wh.g"},
      {.name = "g/file", .data = "below"},
      {.name = ".wh.h"},
      {.name = "h", .data = "again"},
  }));
  EXPECT_EQ(Content("f"), "kept");
  EXPECT_TRUE(IsOpaque("d"));
  EXPECT_TRUE(IsOpaque("e"));
  EXPECT_TRUE(IsOpaque("g"));
  EXPECT_EQ(Content("g/file"), "below");
  EXPECT_EQ(Content("h"), "again");
}

TEST_F(LayerTest, WhiteoutsOfNoFileAreRefused) {
  for (const char* name : {".wh.", ".wh..", ".wh...", "a/.wh..."}) {
    EXPECT_THAT(ErrorOf({{.name = name}}), HasSubstr("a whiteout of no file")) << name;
  }
  ExpectOutsideUntouched();
}

TEST_F(LayerTest, SpecialFiles) {
  ASSERT_TRUE(Unpack({
      {.name = "fifo", .type = '6', .mode = 0622},
      {.name = "null", .type = '3', .mode = 0666, .gid = 7, .major = 1, .minor = 3},
      {.name = "disk", .type = '4', .mode = 0660, .major = 7, .minor = 200},
  }));
  EXPECT_EQ(StatOf("fifo").st_mode, S_IFIFO | 0622U);
  EXPECT_EQ(StatOf("null").st_mode, S_IFCHR | 0666U);
  EXPECT_EQ(StatOf("null").st_rdev, makedev(1, 3));
  EXPECT_EQ(StatOf("null").st_gid, 7U);
  EXPECT_EQ(StatOf("disk").st_rdev, makedev(7, 200));
}

TEST_F(LayerTest, ExtendedAttributes) {
  const std::string capability(
      "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
      "\x00\x00\x00\x00",
      20);
  const auto warnings = Unpack({
      {.name = "ping",
       .data = "x",
       .mode = 0755,
       .uid = 1,
       .pax = {{"SCHILY.xattr.security.capability", capability},
               {"SCHILY.xattr.user.note", std::string("a\0b", 3)}}},
      {.name = "d/",
       .type = '5',
       .mode = 0755,
       .pax = {{"SCHILY.xattr.trusted.overlay.redirect", "/etc"}}},
  });
  ASSERT_TRUE(warnings) << warnings.error().message();
  EXPECT_THAT(*warnings, testing::Contains(HasSubstr("overlayfs")));
  EXPECT_EQ(*sys::LGetXattr(Path("d"), "trusted.overlay.redirect"), std::nullopt);
  EXPECT_EQ(*sys::LGetXattr(Path("ping"), "security.capability"), capability);
  const auto note = *sys::LGetXattr(Path("ping"), "user.note");
  if (!note) {
    EXPECT_THAT(*warnings, testing::Contains(HasSubstr("user.note")));
    GTEST_SKIP() << "the file system of /tmp has no user attributes";
  }
  EXPECT_EQ(*note, std::string("a\0b", 3));
}

TEST_F(LayerTest, HardLinks) {
  ASSERT_TRUE(Unpack({
      {.name = "a", .data = "x", .mode = 0600},
      {.name = "b", .type = '1', .link = "a"},
      {.name = "d/c", .type = '1', .link = "./b"},
      {.name = "a", .type = '1', .link = "/b"},
  }));
  EXPECT_EQ(StatOf("a").st_nlink, 3U);
  EXPECT_EQ(StatOf("a").st_ino, StatOf("d/c").st_ino);
}

TEST_F(LayerTest, HardLinkTargetsThatAreRefused) {
  EXPECT_THAT(ErrorOf({{.name = "b", .type = '1', .link = "../victim"}}), HasSubstr("\"..\""));
  EXPECT_THAT(ErrorOf({{.name = "b", .type = '1', .link = "none"}}),
              HasSubstr("hard link to \"none\", which is not in this layer"));
  EXPECT_THAT(ErrorOf({{.name = "d/", .type = '5'}, {.name = "c", .type = '1', .link = "d"}}),
              HasSubstr("which is a directory"));
  // An absolute link in the way: it leads back into the layer, where there is no such file.
  EXPECT_THAT(ErrorOf({{.name = "up", .type = '2', .link = outside_.path()},
                       {.name = "e", .type = '1', .link = "up/victim"}}),
              HasSubstr("not in this layer"));
  ExpectOutsideUntouched();
}

TEST_F(LayerTest, NamesThatLeaveTheLayer) {
  EXPECT_THAT(ErrorOf({{.name = "../victim", .data = "bad"}}),
              HasSubstr("entry \"../victim\": the name contains \"..\""));
  EXPECT_THAT(ErrorOf({{.name = "a/../../victim", .data = "bad"}}), HasSubstr("\"..\""));
  EXPECT_THAT(ErrorOf({{.name = "..", .type = '5'}}), HasSubstr("\"..\""));
  EXPECT_THAT(ErrorOf({{.name = "../.wh.victim"}}), HasSubstr("\"..\""));
  ExpectOutsideUntouched();
}

TEST_F(LayerTest, SymlinkParentsStayInside) {
  ASSERT_TRUE(Unpack({
      {.name = "real/", .type = '5', .mode = 0755},
      {.name = "abs", .type = '2', .link = "/real"},
      {.name = "abs/one", .data = "1"},
      {.name = "up", .type = '2', .link = "../../../../real"},
      {.name = "up/two", .data = "2"},
      {.name = "top", .type = '2', .link = "../.."},
      {.name = "top/victim", .data = "inside"},
  }));
  EXPECT_EQ(Content("real/one"), "1");
  EXPECT_EQ(Content("real/two"), "2");
  EXPECT_EQ(Content("victim"), "inside");
  ExpectOutsideUntouched();
}

TEST_F(LayerTest, SymlinkParentsThatLeadNowhere) {
  EXPECT_THAT(ErrorOf({{.name = "out", .type = '2', .link = outside_.path()},
                       {.name = "out/victim", .data = "bad"}}),
              HasSubstr("entry \"out/victim\": \"out\" is not a directory"));
  EXPECT_THAT(ErrorOf({{.name = "loop", .type = '2', .link = "loop"}, {.name = "loop/x"}}),
              HasSubstr("Too many levels"));
  EXPECT_THAT(ErrorOf({{.name = "f", .data = "x"}, {.name = "f/x"}}),
              HasSubstr("\"f\" is not a directory"));
  ExpectOutsideUntouched();
}

// The file behind a symbolic link of the same name is not what a later entry writes to.
TEST_F(LayerTest, EntriesReplaceSymlinks) {
  ASSERT_TRUE(Unpack({
      {.name = "x", .type = '2', .link = outside_.path() + "/victim"},
      {.name = "x", .data = "mine"},
      {.name = "y", .type = '2', .link = outside_.path()},
      {.name = "y/", .type = '5', .mode = 0700},
      {.name = "y/victim", .data = "mine"},
  }));
  EXPECT_EQ(Content("x"), "mine");
  EXPECT_EQ(Content("y/victim"), "mine");
  EXPECT_EQ(StatOf("y").st_mode, S_IFDIR | 0700U);
  ExpectOutsideUntouched();
}

TEST_F(LayerTest, EntriesReplaceEachOther) {
  ASSERT_TRUE(Unpack({
      {.name = "d/", .type = '5', .mode = 0700, .mtime = 1},
      {.name = "d/sub/", .type = '5', .mode = 0755},
      {.name = "d/sub/file", .data = "x"},
      {.name = "d/", .type = '5', .mode = 0751, .mtime = 77},
      {.name = "e/", .type = '5', .mode = 0755},
      {.name = "e/file", .data = "x"},
      {.name = "e", .data = "now a file"},
      {.name = "f", .data = "x"},
      {.name = "f", .type = '6'},
      {.name = "g", .data = "x"},
      {.name = "g/", .type = '5', .mode = 0755},
      {.name = "g/in", .data = "y"},
  }));
  EXPECT_EQ(StatOf("d").st_mode, S_IFDIR | 0751U);
  EXPECT_EQ(StatOf("d").st_mtime, 77);
  EXPECT_EQ(Content("d/sub/file"), "x");
  EXPECT_EQ(Content("e"), "now a file");
  EXPECT_TRUE(S_ISFIFO(StatOf("f").st_mode));
  EXPECT_TRUE(IsOpaque("g"));
  EXPECT_EQ(Content("g/in"), "y");
}

TEST_F(LayerTest, NamesKeepTheirBytesInAnyLocale) {
  ASSERT_NE(::setlocale(LC_ALL, "C.UTF-8"), nullptr);
  const ScopeGuard restore([] { ::setlocale(LC_ALL, "C"); });
  const std::string long_name = std::string(200, 'n') + "/" + std::string(250, 'm');
  const std::string decomposed = "cafe\xcc\x81";  // not to be composed
  const std::string latin1 = "caf\xe9";
  ASSERT_TRUE(Unpack({
      {.name = "short", .data = "1", .pax = {{"path", long_name}}},
      {.name = "x", .data = "2", .pax = {{"path", decomposed}}},
      {.name = latin1, .data = "3"},
      {.name = "y", .data = "4", .pax = {{"path", "pax-" + latin1}}},
      {.name = "z", .type = '2', .link = "?", .pax = {{"linkpath", decomposed}}},
  }));
  EXPECT_EQ(Content(long_name), "1");
  EXPECT_EQ(Content(decomposed), "2");
  EXPECT_EQ(Content(latin1), "3");
  EXPECT_EQ(Content("pax-" + latin1), "4");
  EXPECT_EQ(*sys::ReadLink(Path("z")), decomposed);
}

TEST_F(LayerTest, TooLongNames) {
  EXPECT_THAT(ErrorOf({{.name = "x", .pax = {{"path", std::string(5000, 'a')}}}}),
              HasSubstr("longer than 4096 bytes"));
  EXPECT_THAT(ErrorOf({{.name = "x", .pax = {{"path", std::string(300, 'a')}}}}),
              HasSubstr("File name too long"));
}

TEST_F(LayerTest, SparseFilesByRealTar) {
  const TempDir tree = *TempDir::Create("/tmp/layer_test-");
  const UniqueFd file = *sys::Open(tree.path() + "/sparse", O_RDWR | O_CREAT, 0644);
  ASSERT_TRUE(sys::WriteAllAt(file.get(), std::as_bytes(std::span("end", 3)), 50'000'000));
  ASSERT_TRUE(sys::Ftruncate(file.get(), 60'000'000));
  for (const char* format : {"gnu", "posix"}) {
    const TempDir out = *TempDir::Create("/tmp/layer_test-");
    const std::string tar_path = out.path() + "/x.tar";
    const std::string command =
        fmt::format("tar --format={} -S -C {} -cf {} .", format, tree.path(), tar_path);
    ASSERT_EQ(std::system(command.c_str()), 0);
    const std::string tar = *sys::ReadFile(tar_path);
    ASSERT_LT(tar.size(), 1'000'000U);
    ASSERT_TRUE(UnpackBlob(tar, DigestOf(tar)));
    EXPECT_EQ(StatOf("sparse").st_size, 60'000'000);
    EXPECT_LT(StatOf("sparse").st_blocks, 1000);
    std::array<std::byte, 3> tail{};
    const UniqueFd written = *sys::Open(Path("sparse"), O_RDONLY);
    EXPECT_EQ(*sys::ReadAt(written.get(), tail, 50'000'000), 3U);
    EXPECT_EQ(std::memcmp(tail.data(), "end", 3), 0);
  }
}

TEST_F(LayerTest, IdsOutOfRange) {
  EXPECT_THAT(ErrorOf({{.name = "x", .pax = {{"uid", "4294967295"}}}}),
              HasSubstr("user id 4294967295 is out of range"));
  EXPECT_THAT(ErrorOf({{.name = "x", .pax = {{"gid", "99999999999"}}}}),
              HasSubstr("group id 99999999999 is out of range"));
}

TEST_F(LayerTest, DigestsAreVerified) {
  const std::string tar = MakeTar({{.name = "x", .data = "y"}});
  const std::string blob = Compress(tar, "gzip");
  EXPECT_TRUE(UnpackBlob(blob, DigestOf(tar), DigestOf(blob)));
  EXPECT_TRUE(UnpackBlob(blob, DigestOf(tar, DigestAlgorithm::kSha512),
                         DigestOf(blob, DigestAlgorithm::kSha512)));
  auto result = UnpackBlob(blob, DigestOf("other"), DigestOf(blob));
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().message(),
              HasSubstr("uncompressed layer: the content does not match"));
  result = UnpackBlob(blob, DigestOf(tar), DigestOf("other"));
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().message(), HasSubstr("layer: the content does not match"));
  // What follows the tar's end and the compressed stream's belongs to the digests too.
  EXPECT_FALSE(UnpackBlob(blob + "tail", DigestOf(tar), DigestOf(blob)));
  EXPECT_TRUE(UnpackBlob(tar + std::string(5120, '\0'), DigestOf(tar + std::string(5120, '\0'))));
}

TEST_F(LayerTest, DamagedStreams) {
  const std::string tar = MakeTar({{.name = "x", .data = std::string(100'000, 'y')}});
  for (const char* method : {"", "gzip", "zstd", "xz", "bzip2"}) {
    const std::string blob = Compress(tar, method);
    EXPECT_FALSE(UnpackBlob(blob.substr(0, blob.size() / 2), DigestOf(tar))) << method;
    std::string damaged = blob;
    damaged[damaged.size() / 2] ^= 0x55;
    EXPECT_FALSE(UnpackBlob(damaged, DigestOf(tar))) << method;
  }
  EXPECT_FALSE(UnpackBlob("not a tar at all", DigestOf("not a tar at all")));
}

// Each link doubles back, so the tree is far deeper than any name in the tar, and than the limit of
// open files: its removal must not mind.
TEST_F(LayerTest, VeryDeepTreesCanBeRemoved) {
  std::string deep;
  for (int i = 0; i < 300; ++i) {
    deep += "d/";
  }
  std::vector<TarItem> items;
  std::string prefix;
  for (int i = 0; i < 5; ++i) {
    items.push_back({.name = "x", .type = '5', .mode = 0755, .pax = {{"path", prefix + deep}}});
    const std::string link = fmt::format("l{}", i);
    items.push_back({.name = link, .type = '2', .link = "?", .pax = {{"linkpath", prefix + deep}}});
    prefix = link + "/";
  }
  ASSERT_TRUE(Unpack(items)) << Unpack(items).error().message();
  EXPECT_TRUE(RemoveTree(folder()));
  EXPECT_FALSE(sys::LStat(folder()));
}

}  // namespace
}  // namespace bulkhead::oci
