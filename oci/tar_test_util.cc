#include "oci/tar_test_util.h"

#include <archive.h>
#include <archive_entry.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/log.h"
#include "base/sys.h"
#include "oci/digest.h"

namespace bulkhead::oci::test {
namespace {

std::string Padded(std::string data) {
  data.resize((data.size() + 511) / 512 * 512, '\0');
  return data;
}

std::string Header(const TarItem& item, size_t size) {
  std::string block(512, '\0');
  const auto put = [&](size_t at, size_t width, const std::string& text) {
    std::copy_n(text.begin(), std::min(width, text.size()),
                block.begin() + static_cast<std::ptrdiff_t>(at));
  };
  put(0, 100, item.name);
  put(100, 8, fmt::format("{:07o}", item.mode));
  put(108, 8, fmt::format("{:07o}", item.uid));
  put(116, 8, fmt::format("{:07o}", item.gid));
  put(124, 12, fmt::format("{:011o}", size));
  put(136, 12, fmt::format("{:011o}", item.mtime));
  put(148, 8, "        ");
  block[156] = item.type;
  put(157, 100, item.link);
  put(257, 8,
      std::string("ustar\0"
                  "00",
                  8));
  put(329, 8, fmt::format("{:07o}", item.major));
  put(337, 8, fmt::format("{:07o}", item.minor));
  unsigned sum = 0;
  for (const char c : block) {
    sum += static_cast<unsigned char>(c);
  }
  put(148, 7, fmt::format("{:06o}", sum));
  block[154] = '\0';
  return block;
}

std::string PaxRecord(const std::string& key, const std::string& value) {
  const size_t rest = key.size() + value.size() + 3;
  size_t size = rest + 1;
  while (std::to_string(size).size() + rest != size) {
    ++size;
  }
  return fmt::format("{} {}={}\n", size, key, value);
}

}  // namespace

std::string MakeTar(const std::vector<TarItem>& items) {
  std::string tar;
  for (const TarItem& item : items) {
    if (!item.pax.empty()) {
      std::string records;
      for (const auto& [key, value] : item.pax) {
        records += PaxRecord(key, value);
      }
      TarItem header;
      header.name = "PaxHeaders/x";
      header.type = 'x';
      tar += Header(header, records.size()) + Padded(records);
    }
    tar += Header(item, item.data.size()) + Padded(item.data);
  }
  return tar + std::string(1024, '\0');
}

std::string Compress(const std::string& data, const std::string& method) {
  if (method.empty()) {
    return data;
  }
  archive* writer = archive_write_new();
  archive_write_set_format_raw(writer);
  if (method == "gzip") {
    archive_write_add_filter_gzip(writer);
  } else if (method == "zstd") {
    archive_write_add_filter_zstd(writer);
  } else if (method == "xz") {
    archive_write_add_filter_xz(writer);
  } else {
    archive_write_add_filter_bzip2(writer);
  }
  archive_write_set_bytes_in_last_block(writer, 1);
  std::string out(data.size() + (1U << 20U), '\0');
  size_t used = 0;
  archive_write_open_memory(writer, out.data(), out.size(), &used);
  archive_entry* entry = archive_entry_new();
  archive_entry_set_pathname(entry, "data");
  archive_entry_set_filetype(entry, AE_IFREG);
  archive_write_header(writer, entry);
  archive_write_data(writer, data.data(), data.size());
  archive_entry_free(entry);
  archive_write_close(writer);
  archive_write_free(writer);
  out.resize(used);
  return out;
}

std::string TarOfFolder(const std::string& folder) {
  const auto scratch = *TempDir::Create("/tmp/image_test-");
  const std::string file = scratch.path() + "/x.tar";
  const std::string command = fmt::format("tar -C '{}' -cf '{}' .", folder, file);
  if (std::system(command.c_str()) != 0) {
    std::abort();
  }
  return *sys::ReadFile(file, 1U << 30U);
}

LayoutBuilder::LayoutBuilder() : folder_(*TempDir::Create("/tmp/image_test-")) {
  (void)sys::MkdirAll(path() + "/blobs/sha256");
  (void)sys::WriteFile(path() + "/oci-layout", R"({"imageLayoutVersion":"1.0.0"})");
}

std::string LayoutBuilder::BlobPath(const std::string& digest) const {
  return path() + "/" + Digest::Parse(digest)->BlobPath();
}

std::string LayoutBuilder::AddBlob(const std::string& content) {
  const std::string digest = DigestOf(content).ToString();
  (void)sys::WriteFile(BlobPath(digest), content);
  return digest;
}

std::string LayoutBuilder::AddManifest(const Image& image) {
  std::string diff_ids;
  std::string layers;
  layer_digests.clear();
  for (const std::string& tar : image.layer_tars) {
    const std::string blob = Compress(tar, image.compression);
    layer_digests.push_back(AddBlob(blob));
    std::string type = image.layer_media_type;
    if (type.empty()) {
      type = "application/vnd.oci.image.layer.v1.tar";
      if (!image.compression.empty()) {
        type.append("+").append(image.compression);
      }
    }
    const std::string comma = layers.empty() ? "" : ",";
    layers += fmt::format(R"({}{{"mediaType":"{}","digest":"{}","size":{}}})", comma, type,
                          layer_digests.back(), blob.size());
    diff_ids += fmt::format(R"({}"{}")", comma, DigestOf(tar).ToString());
  }
  const std::string config = fmt::format(
      R"({{"architecture":"{}","os":"linux","config":{},"rootfs":{{"type":"layers","diff_ids":[{}]}}}})",
      image.architecture, image.config, diff_ids);
  config_digest = AddBlob(config);
  const std::string manifest = fmt::format(
      R"({{"schemaVersion":2,"config":{{"mediaType":"{}","digest":"{}","size":{}}},"layers":[{}]}})",
      image.config_media_type, config_digest, config.size(), layers);
  manifest_digest = AddBlob(manifest);
  std::string extra;
  if (!image.name.empty()) {
    extra =
        fmt::format(R"(,"annotations":{{"org.opencontainers.image.ref.name":"{}"}})", image.name);
  }
  if (!image.platform.empty()) {
    extra += R"(,"platform":)" + image.platform;
  }
  return fmt::format(
      R"({{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{}","size":{}{}}})",
      manifest_digest, manifest.size(), extra);
}

namespace {

std::string IndexOf(const std::vector<std::string>& descriptors) {
  std::string list;
  for (const std::string& descriptor : descriptors) {
    list.append(list.empty() ? "" : ",").append(descriptor);
  }
  return fmt::format(R"({{"schemaVersion":2,"manifests":[{}]}})", list);
}

}  // namespace

std::string LayoutBuilder::AddIndex(const std::vector<std::string>& descriptors) {
  const std::string index = IndexOf(descriptors);
  return fmt::format(
      R"({{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"{}","size":{}}})",
      AddBlob(index), index.size());
}

void LayoutBuilder::WriteIndex(const std::vector<std::string>& descriptors) {
  (void)sys::WriteFile(path() + "/index.json", IndexOf(descriptors));
}

std::string MakeDockerArchive(const std::vector<DockerArchiveImage>& images) {
  std::vector<TarItem> items;
  std::string manifest;
  int number = 0;
  for (const DockerArchiveImage& image : images) {
    std::string diff_ids;
    std::string layers;
    for (const std::string& tar : image.layer_tars) {
      const std::string name = fmt::format("layer-{}/layer.tar", number++);
      items.push_back({.name = name, .data = tar});
      const std::string comma = layers.empty() ? "" : ",";
      layers += comma + JsonQuote(name);
      diff_ids += comma + JsonQuote(DigestOf(tar).ToString());
    }
    std::string tags;
    for (const std::string& tag : image.tags) {
      tags.append(tags.empty() ? "" : ",").append(JsonQuote(tag));
    }
    const std::string config = fmt::format(
        R"({{"architecture":"amd64","os":"linux","config":{{"Cmd":["/hello"],"Entrypoint":null}},)"
        R"("rootfs":{{"type":"layers","diff_ids":[{}]}}}})",
        diff_ids);
    const std::string config_name = DigestOf(config).hex + ".json";
    items.push_back({.name = config_name, .data = config});
    manifest += fmt::format(R"({}{{"Config":"{}","RepoTags":[{}],"Layers":[{}]}})",
                            manifest.empty() ? "" : ",", config_name, tags, layers);
  }
  items.push_back({.name = "manifest.json", .data = fmt::format("[{}]", manifest)});
  return MakeTar(items);
}

}  // namespace bulkhead::oci::test
