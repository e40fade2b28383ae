#include "oci/digest.h"

#include <algorithm>
#include <array>

#include "base/log.h"

namespace bulkhead::oci {
namespace {

std::string_view NameOf(DigestAlgorithm algorithm) {
  return algorithm == DigestAlgorithm::kSha256 ? "sha256" : "sha512";
}

size_t HexLength(DigestAlgorithm algorithm) {
  return algorithm == DigestAlgorithm::kSha256 ? 2 * SHA256_DIGEST_SIZE : 2 * SHA512_DIGEST_SIZE;
}

std::string ToHex(std::span<const uint8_t> bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string hex;
  hex.reserve(2 * bytes.size());
  for (const uint8_t byte : bytes) {
    hex += kDigits[byte >> 4U];
    hex += kDigits[byte & 15U];
  }
  return hex;
}

}  // namespace

Result<Digest> Digest::Parse(std::string_view text) {
  const size_t colon = text.find(':');
  if (colon == std::string_view::npos) {
    return MakeError(ErrorCode::kInvalidArgument, "{} is not a digest (sha256:<hex>)",
                     JsonQuote(text.substr(0, 200)));
  }
  Digest digest;
  const std::string_view name = text.substr(0, colon);
  if (name == "sha512") {
    digest.algorithm = DigestAlgorithm::kSha512;
  } else if (name != "sha256") {
    return MakeError(ErrorCode::kUnimplemented,
                     "digest algorithm {} is not supported (sha256 and sha512 are)",
                     JsonQuote(name.substr(0, 100)));
  }
  const std::string_view hex = text.substr(colon + 1);
  const bool is_hex = std::all_of(hex.begin(), hex.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
  });
  if (!is_hex || hex.size() != HexLength(digest.algorithm)) {
    return MakeError(ErrorCode::kInvalidArgument, "{} is not a {} digest",
                     JsonQuote(text.substr(0, 200)), name);
  }
  digest.hex = hex;
  return digest;
}

std::string Digest::ToString() const { return fmt::format("{}:{}", NameOf(algorithm), hex); }
std::string Digest::FileName() const { return fmt::format("{}-{}", NameOf(algorithm), hex); }
std::string Digest::BlobPath() const { return fmt::format("blobs/{}/{}", NameOf(algorithm), hex); }

Hasher::Hasher(DigestAlgorithm algorithm) {
  if (algorithm == DigestAlgorithm::kSha256) {
    sha256_init(&context_.emplace<sha256_ctx>());
  } else {
    sha512_init(&context_.emplace<sha512_ctx>());
  }
}

void Hasher::Update(std::span<const std::byte> data) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(data.data());
  if (auto* sha256 = std::get_if<sha256_ctx>(&context_)) {
    sha256_update(sha256, data.size(), bytes);
  } else {
    sha512_update(&std::get<sha512_ctx>(context_), data.size(), bytes);
  }
}

Digest Hasher::Finish() {
  if (auto* sha256 = std::get_if<sha256_ctx>(&context_)) {
    std::array<uint8_t, SHA256_DIGEST_SIZE> bytes{};
    sha256_digest(sha256, bytes.size(), bytes.data());
    return Digest{DigestAlgorithm::kSha256, ToHex(bytes)};
  }
  std::array<uint8_t, SHA512_DIGEST_SIZE> bytes{};
  sha512_digest(&std::get<sha512_ctx>(context_), bytes.size(), bytes.data());
  return Digest{DigestAlgorithm::kSha512, ToHex(bytes)};
}

Digest DigestOf(std::string_view data, DigestAlgorithm algorithm) {
  Hasher hasher(algorithm);
  hasher.Update(std::as_bytes(std::span(data)));
  return hasher.Finish();
}

}  // namespace bulkhead::oci
