#include "oci/layer.h"

#include "oci/layer_writer.h"
#include "oci/tar_reader.h"
#include "oci/tar_source.h"

namespace bulkhead::oci {

Result<std::vector<std::string>> UnpackLayer(const LayerBlob& blob, const std::string& folder,
                                             std::function<void(uint64_t)> counter) {
  FdSource file(blob.fd, blob.offset, blob.size);
  // An uncompressed layer is its own content: one digest says both.
  std::optional<DigestAlgorithm> algorithm;
  if (blob.digest && *blob.digest != blob.diff_id) {
    algorithm = blob.digest->algorithm;
  }
  HashingSource compressed(file, algorithm, std::move(counter));
  const auto decompressor = TRY(Decompressor::Create(compressed));
  HashingSource content(*decompressor, blob.diff_id.algorithm);
  const auto tar = TRY(TarReader::Create(content));

  LayerWriter writer = TRY(LayerWriter::Create(folder));
  while (const auto entry = TRY(tar->Next())) {
    TRY(writer.Add(*entry, *tar));
  }
  TRY(writer.Finish());
  TRY_AS(content.Verify(blob.diff_id), "uncompressed layer");
  if (algorithm) {
    TRY_AS(compressed.Verify(*blob.digest), "layer");
  }
  return writer.warnings();
}

}  // namespace bulkhead::oci
