#include "oci/tar_reader.h"

#include <archive.h>
#include <archive_entry.h>
#include <locale.h>

#include <algorithm>
#include <string_view>

namespace bulkhead::oci {
namespace {

// In the C locale libarchive cannot convert a name that is not ASCII and hands it over as it is. In
// a UTF-8 locale it would rewrite it (to the composed form): another name than the image has.
class CLocaleScope {
 public:
  CLocaleScope() : previous_(uselocale(CLocale())) {}
  CLocaleScope(const CLocaleScope&) = delete;
  CLocaleScope& operator=(const CLocaleScope&) = delete;
  ~CLocaleScope() { uselocale(previous_); }

 private:
  static locale_t CLocale() {
    static const locale_t locale = newlocale(LC_ALL_MASK, "C", nullptr);
    return locale;
  }
  const locale_t previous_;
};

TarEntry::Type TypeOf(archive_entry* entry) {
  if (archive_entry_hardlink(entry) != nullptr) {
    return TarEntry::Type::kHardLink;
  }
  switch (archive_entry_filetype(entry)) {
    case AE_IFREG:
      return TarEntry::Type::kFile;
    case AE_IFDIR:
      return TarEntry::Type::kDirectory;
    case AE_IFLNK:
      return TarEntry::Type::kSymlink;
    case AE_IFIFO:
      return TarEntry::Type::kFifo;
    case AE_IFCHR:
      return TarEntry::Type::kCharDevice;
    case AE_IFBLK:
      return TarEntry::Type::kBlockDevice;
    default:
      return TarEntry::Type::kUnknown;
  }
}

void CopyXattrs(archive_entry* from, TarEntry& to) {
  archive_entry_xattr_reset(from);
  const char* name = nullptr;
  const void* value = nullptr;
  size_t size = 0;
  while (archive_entry_xattr_next(from, &name, &value, &size) == ARCHIVE_OK) {
    to.xattrs.emplace_back(name, std::string(static_cast<const char*>(value), size));
  }
}

std::string OrEmpty(const char* text) { return text != nullptr ? text : ""; }

TarEntry Convert(archive_entry* from) {
  TarEntry to;
  to.type = TypeOf(from);
  to.name = OrEmpty(archive_entry_pathname(from));
  if (to.type == TarEntry::Type::kHardLink) {
    to.target = OrEmpty(archive_entry_hardlink(from));
  } else if (to.type == TarEntry::Type::kSymlink) {
    to.target = OrEmpty(archive_entry_symlink(from));
  }
  to.size = static_cast<uint64_t>(std::max<int64_t>(0, archive_entry_size(from)));
  to.sparse = archive_entry_sparse_count(from) > 0;
  to.mode = archive_entry_perm(from) & 07777U;
  to.uid = archive_entry_uid(from);
  to.gid = archive_entry_gid(from);
  to.mtime.tv_sec = archive_entry_mtime(from);
  to.mtime.tv_nsec = std::clamp<long>(archive_entry_mtime_nsec(from), 0, 999999999);
  to.device = archive_entry_rdev(from);
  CopyXattrs(from, to);
  return to;
}

}  // namespace

TarReader::TarReader(ByteSource& source)
    : input_(source), reader_(archive_read_new(), &archive_read_free) {
  archive_read_support_format_tar(reader_.get());
  archive_read_support_format_empty(reader_.get());
}

Result<std::unique_ptr<TarReader>> TarReader::Create(ByteSource& source) {
  const CLocaleScope locale;
  std::unique_ptr<TarReader> self(new TarReader(source));
  TRY(self->input_.Open(self->reader_.get()));
  return self;
}

Result<std::optional<TarEntry>> TarReader::Next() {
  const CLocaleScope locale;
  archive_entry* entry = nullptr;
  const int result = archive_read_next_header(reader_.get(), &entry);
  if (result == ARCHIVE_EOF) {
    return std::nullopt;
  }
  if (result != ARCHIVE_OK && result != ARCHIVE_WARN) {
    return tl::unexpected<Error>(input_.ErrorOf(reader_.get()).Wrap("tar"));
  }
  TarEntry converted = Convert(entry);
  converted.position = position();
  if (result == ARCHIVE_WARN) {
    const std::string warning = OrEmpty(archive_error_string(reader_.get()));
    // Not converting names is what is wanted.
    if (warning.find("can't be converted") == std::string::npos) {
      converted.warning = warning;
    }
  }
  return converted;
}

Result<std::optional<TarBlock>> TarReader::NextBlock() {
  const void* data = nullptr;
  size_t size = 0;
  int64_t offset = 0;
  const int result = archive_read_data_block(reader_.get(), &data, &size, &offset);
  if (result == ARCHIVE_EOF) {
    return std::nullopt;
  }
  if (result != ARCHIVE_OK) {
    return tl::unexpected<Error>(input_.ErrorOf(reader_.get()).Wrap("tar"));
  }
  return TarBlock{static_cast<uint64_t>(offset),
                  std::span(static_cast<const std::byte*>(data), size)};
}

uint64_t TarReader::position() const {
  return static_cast<uint64_t>(archive_read_header_position(reader_.get()));
}

}  // namespace bulkhead::oci
