#include "oci/tar_source.h"

#include <archive.h>
#include <archive_entry.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/sys.h"

namespace bulkhead::oci {
namespace {

constexpr size_t kReadSize = 256U << 10U;

}  // namespace

uint64_t ByteSource::Skip(uint64_t /*count*/) { return 0; }

Result<std::span<const std::byte>> FdSource::Next() {
  buffer_.resize(std::min<uint64_t>(kReadSize, left_));
  if (left_ == 0) {
    return std::span<const std::byte>();
  }
  const size_t count = TRY(sys::ReadAt(fd_, buffer_, offset_));
  if (count == 0) {
    return MakeError(ErrorCode::kInvalidArgument, "the file is truncated: {} bytes are missing",
                     left_);
  }
  offset_ += count;
  left_ -= count;
  return std::span<const std::byte>(buffer_).first(count);
}

uint64_t FdSource::Skip(uint64_t count) {
  const uint64_t skipped = std::min(count, left_);
  offset_ += skipped;
  left_ -= skipped;
  return skipped;
}

HashingSource::HashingSource(ByteSource& source, std::optional<DigestAlgorithm> algorithm,
                             std::function<void(uint64_t)> counter)
    : source_(source), counter_(std::move(counter)) {
  if (algorithm) {
    hasher_.emplace(*algorithm);
  }
}

Result<std::span<const std::byte>> HashingSource::Next() {
  const auto bytes = TRY(source_.Next());
  if (hasher_) {
    hasher_->Update(bytes);
  }
  if (counter_ && !bytes.empty()) {
    counter_(bytes.size());
  }
  return bytes;
}

Status HashingSource::Drain() {
  while (!TRY(Next()).empty()) {
  }
  return {};
}

Status HashingSource::Verify(const Digest& expected) {
  TRY(Drain());
  const Digest actual = hasher_->Finish();
  if (actual != expected) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "the content does not match its digest: expected {}, got {}",
                     expected.ToString(), actual.ToString());
  }
  return {};
}

ssize_t ArchiveInput::ReadCallback(archive* reader, void* self, const void** buffer) {
  auto* input = static_cast<ArchiveInput*>(self);
  auto bytes = input->source_.Next();
  if (!bytes) {
    archive_set_error(reader, EIO, "%s", bytes.error().message().c_str());
    input->error_ = std::move(bytes).error();
    return -1;
  }
  *buffer = bytes->data();
  return static_cast<ssize_t>(bytes->size());
}

int64_t ArchiveInput::SkipCallback(archive* /*reader*/, void* self, int64_t count) {
  auto* input = static_cast<ArchiveInput*>(self);
  return static_cast<int64_t>(
      input->source_.Skip(static_cast<uint64_t>(std::max<int64_t>(0, count))));
}

Status ArchiveInput::Open(archive* reader) {
  if (archive_read_open2(reader, this, nullptr, &ReadCallback, &SkipCallback, nullptr) !=
      ARCHIVE_OK) {
    return tl::unexpected<Error>(ErrorOf(reader));
  }
  return {};
}

Error ArchiveInput::ErrorOf(archive* reader) const {
  if (error_) {
    return *error_;
  }
  const char* text = archive_error_string(reader);
  return {ErrorCode::kInvalidArgument, text != nullptr ? text : "damaged archive"};
}

bool IsCompressed(std::string_view start) {
  static constexpr std::array<std::string_view, 4> kMagics = {"\x1f\x8b", "\x28\xb5\x2f\xfd",
                                                              "\xfd\x37zXZ", "BZh"};
  return std::any_of(kMagics.begin(), kMagics.end(),
                     [&](std::string_view magic) { return start.starts_with(magic); });
}

Decompressor::Decompressor(ByteSource& source)
    : input_(source), reader_(archive_read_new(), &archive_read_free) {
  archive_read_support_filter_gzip(reader_.get());
  archive_read_support_filter_zstd(reader_.get());
  archive_read_support_filter_xz(reader_.get());
  archive_read_support_filter_bzip2(reader_.get());
  archive_read_support_format_raw(reader_.get());
  archive_read_support_format_empty(reader_.get());
}

Result<std::unique_ptr<Decompressor>> Decompressor::Create(ByteSource& source) {
  std::unique_ptr<Decompressor> self(new Decompressor(source));
  TRY(self->input_.Open(self->reader_.get()));
  archive_entry* entry = nullptr;
  const int result = archive_read_next_header(self->reader_.get(), &entry);
  if (result == ARCHIVE_EOF) {
    self->ended_ = true;
  } else if (result != ARCHIVE_OK && result != ARCHIVE_WARN) {
    return tl::unexpected<Error>(self->input_.ErrorOf(self->reader_.get()));
  }
  return self;
}

Result<std::span<const std::byte>> Decompressor::Next() {
  while (!ended_) {
    const void* data = nullptr;
    size_t size = 0;
    int64_t offset = 0;
    const int result = archive_read_data_block(reader_.get(), &data, &size, &offset);
    if (result == ARCHIVE_EOF) {
      ended_ = true;
    } else if (result != ARCHIVE_OK) {
      return tl::unexpected<Error>(input_.ErrorOf(reader_.get()));
    } else if (size > 0) {
      return std::span(static_cast<const std::byte*>(data), size);
    }
  }
  return std::span<const std::byte>();
}

}  // namespace bulkhead::oci
