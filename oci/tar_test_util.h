// Tars, compressed streams and whole images made in memory or in a temporary folder, for tests.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/temp_dir.h"

namespace bulkhead::oci::test {

// One header and its data, as raw as a test wants it.
struct TarItem {
  std::string name = {};
  char type = '0';  // '0' file, '1' hard link, '2' symlink, '3' char, '4' block, '5' dir, '6' fifo
  std::string data = {};
  std::string link = {};
  unsigned mode = 0644;
  unsigned uid = 0;
  unsigned gid = 0;
  int64_t mtime = 1'000'000'000;
  unsigned major = 0;
  unsigned minor = 0;
  std::map<std::string, std::string> pax = {};  // records of a preceding extended header
};

std::string MakeTar(const std::vector<TarItem>& items);
// "gzip", "zstd", "xz", "bzip2"; "" leaves it alone.
std::string Compress(const std::string& data, const std::string& method);
// The tar of a folder's content, as `tar -C folder -c .` writes it.
std::string TarOfFolder(const std::string& folder);

// An OCI layout in a temporary folder; what is built may be broken by hand afterwards.
class LayoutBuilder {
 public:
  LayoutBuilder();

  const std::string& path() const { return folder_.path(); }
  std::string BlobPath(const std::string& digest) const;
  // Returns the digest.
  std::string AddBlob(const std::string& content);

  struct Image {
    std::vector<std::string> layer_tars = {};  // uncompressed
    std::string compression = "gzip";
    std::string name = {};               // org.opencontainers.image.ref.name
    std::string architecture = "amd64";  // in the config
    std::string platform = {};           // in the descriptor: JSON; empty: none
    std::string config = R"({"Env":["A=b"],"Cmd":["/hello"]})";
    std::string layer_media_type = {};  // empty: the one that suits the compression
    std::string config_media_type = "application/vnd.oci.image.config.v1+json";
  };
  // Adds the blobs; returns the manifest's descriptor (JSON) for an index.
  std::string AddManifest(const Image& image);
  // Adds an index blob of descriptors; returns its descriptor.
  std::string AddIndex(const std::vector<std::string>& descriptors);
  void WriteIndex(const std::vector<std::string>& descriptors);
  void AddImage(const Image& image) { WriteIndex({AddManifest(image)}); }

  // The digests of the last image's layer blobs, and its manifest's.
  std::vector<std::string> layer_digests;
  std::string manifest_digest;
  std::string config_digest;

 private:
  TempDir folder_;
};

// A `docker save` archive of the old form: manifest.json, <hex>.json, <n>/layer.tar.
struct DockerArchiveImage {
  std::vector<std::string> tags;
  std::vector<std::string> layer_tars;
};
std::string MakeDockerArchive(const std::vector<DockerArchiveImage>& images);

}  // namespace bulkhead::oci::test
