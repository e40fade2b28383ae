// Content digests ("sha256:<hex>") and the hashing that verifies them.
#pragma once

#include <nettle/sha2.h>

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "base/result.h"

namespace bulkhead::oci {

enum class DigestAlgorithm { kSha256, kSha512 };

struct Digest {
  DigestAlgorithm algorithm = DigestAlgorithm::kSha256;
  std::string hex;  // lower case, of the algorithm's length: safe in a path

  // Other algorithms, and text that is no digest, are refused by name.
  static Result<Digest> Parse(std::string_view text);

  std::string ToString() const;  // "sha256:..."
  std::string FileName() const;  // "sha256-..."
  std::string BlobPath() const;  // "blobs/sha256/..."
  bool operator==(const Digest& other) const = default;
};

class Hasher {
 public:
  explicit Hasher(DigestAlgorithm algorithm);
  void Update(std::span<const std::byte> data);
  Digest Finish();  // and begins anew

 private:
  std::variant<sha256_ctx, sha512_ctx> context_;
};

Digest DigestOf(std::string_view data, DigestAlgorithm algorithm = DigestAlgorithm::kSha256);

}  // namespace bulkhead::oci
