// Streams of bytes that a tar is read from, each built on the one below: a range of a file, its
// digest taken on the way, its decompression.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "oci/digest.h"

struct archive;

namespace bulkhead::oci {

class ByteSource {
 public:
  ByteSource() = default;
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;
  virtual ~ByteSource() = default;

  // The next bytes, valid until the next call; empty at the end.
  virtual Result<std::span<const std::byte>> Next() = 0;
  // Passes over up to `count` bytes without reading them; returns how many (0: cannot).
  virtual uint64_t Skip(uint64_t count);
};

// The bytes [offset, offset + size) of a file; not the fd's owner.
class FdSource final : public ByteSource {
 public:
  FdSource(int fd, uint64_t offset, uint64_t size) : fd_(fd), offset_(offset), left_(size) {}
  Result<std::span<const std::byte>> Next() override;
  uint64_t Skip(uint64_t count) override;

 private:
  const int fd_;
  uint64_t offset_;
  uint64_t left_;
  std::vector<std::byte> buffer_;
};

// Passes on what `source` gives, hashed (when an algorithm is named) and counted.
class HashingSource final : public ByteSource {
 public:
  HashingSource(ByteSource& source, std::optional<DigestAlgorithm> algorithm,
                std::function<void(uint64_t count)> counter = {});
  Result<std::span<const std::byte>> Next() override;
  // Reads to the end; the digest of it all must be `expected`, of the algorithm named before.
  Status Verify(const Digest& expected);
  Status Drain();

 private:
  ByteSource& source_;
  std::optional<Hasher> hasher_;
  std::function<void(uint64_t)> counter_;
};

// What libarchive calls to read from `source`; keeps the error of a source that failed.
class ArchiveInput {
 public:
  explicit ArchiveInput(ByteSource& source) : source_(source) {}
  Status Open(archive* reader);
  // The source's own error when there was one, else what libarchive says.
  Error ErrorOf(archive* reader) const;

 private:
  static ssize_t ReadCallback(archive* reader, void* self, const void** buffer);
  static int64_t SkipCallback(archive* reader, void* self, int64_t count);

  ByteSource& source_;
  std::optional<Error> error_;
};

using ArchivePtr = std::unique_ptr<archive, int (*)(archive*)>;

// Whether a stream that starts so is one of those that Decompressor undoes.
bool IsCompressed(std::string_view start);

// Undoes gzip, zstd, xz or bzip2, found by their magic numbers; passes on what is none of them.
class Decompressor final : public ByteSource {
 public:
  static Result<std::unique_ptr<Decompressor>> Create(ByteSource& source);
  Result<std::span<const std::byte>> Next() override;

 private:
  explicit Decompressor(ByteSource& source);

  ArchiveInput input_;
  ArchivePtr reader_;
  bool ended_ = false;
};

}  // namespace bulkhead::oci
