// The entries of a tar stream, as plain values.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "oci/tar_source.h"

struct archive_entry;

namespace bulkhead::oci {

struct TarEntry {
  enum class Type {
    kFile,
    kDirectory,
    kSymlink,
    kHardLink,
    kFifo,
    kCharDevice,
    kBlockDevice,
    kUnknown
  };

  Type type = Type::kUnknown;
  std::string name;    // as it stands in the tar, byte for byte
  std::string target;  // of a link
  uint64_t size = 0;
  bool sparse = false;
  mode_t mode = 0;  // permission bits with set-id and sticky
  int64_t uid = 0;
  int64_t gid = 0;
  timespec mtime{};
  dev_t device = 0;
  std::vector<std::pair<std::string, std::string>> xattrs;
  uint64_t position = 0;  // of its first header in the stream
  std::string warning;    // what the reader had to pass over, if anything
};

struct TarBlock {
  uint64_t offset = 0;  // in the file
  std::span<const std::byte> data;
};

// Reads an uncompressed tar (ustar, pax, GNU, V7).
class TarReader {
 public:
  static Result<std::unique_ptr<TarReader>> Create(ByteSource& source);

  Result<std::optional<TarEntry>> Next();  // nullopt at the end
  // The data of the entry that Next() gave last; nullopt at its end.
  Result<std::optional<TarBlock>> NextBlock();
  // After Next(): where the header searched for last begins; at the end, where the entries end.
  uint64_t position() const;

 private:
  explicit TarReader(ByteSource& source);

  ArchiveInput input_;
  ArchivePtr reader_;
};

}  // namespace bulkhead::oci
