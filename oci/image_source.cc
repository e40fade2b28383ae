#include "oci/image_source.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <vector>

#include "base/log.h"
#include "base/sys.h"
#include "oci/tar_reader.h"

namespace bulkhead::oci {
namespace {

constexpr size_t kMaxMembers = 100'000;
constexpr uint64_t kTarBlock = 512;
constexpr int kMaxLinks = 8;

// "a/./b/../c" as "a/c"; nullopt when it leads out of the source.
std::optional<std::string> Normalize(std::string_view name) {
  std::vector<std::string_view> parts;
  for (size_t begin = 0; begin < name.size();) {
    const size_t end = std::min(name.find('/', begin), name.size());
    const std::string_view part = name.substr(begin, end - begin);
    begin = end + 1;
    if (part == "..") {
      if (parts.empty()) {
        return std::nullopt;
      }
      parts.pop_back();
    } else if (!part.empty() && part != ".") {
      parts.push_back(part);
    }
  }
  std::string joined;
  for (const std::string_view part : parts) {
    joined += joined.empty() ? "" : "/";
    joined += part;
  }
  return joined;
}

std::string FolderOf(const std::string& name) {
  const size_t slash = name.rfind('/');
  return slash == std::string::npos ? "" : name.substr(0, slash + 1);
}

Result<bool> HasCompressedContent(int fd) {
  std::array<std::byte, 8> buffer{};
  const size_t size = TRY(sys::ReadAt(fd, buffer, 0));
  return IsCompressed({reinterpret_cast<const char*>(buffer.data()), size});
}

Status Spool(int from, uint64_t size, int to) {
  FdSource file(from, 0, size);
  const auto content = TRY(Decompressor::Create(file));
  uint64_t offset = 0;
  while (true) {
    const auto bytes = TRY(content->Next());
    if (bytes.empty()) {
      return {};
    }
    TRY(sys::WriteAllAt(to, bytes, offset));
    offset += bytes.size();
  }
}

}  // namespace

Result<ImageSource> ImageSource::OpenFolder(const std::string& path) {
  ImageSource source;
  source.folder_ = path;
  return source;
}

Result<ImageSource> ImageSource::OpenArchive(UniqueFd file, const LayerCache& cache) {
  ImageSource source;
  auto size = static_cast<uint64_t>(TRY(sys::FStat(file.get())).st_size);
  if (TRY(HasCompressedContent(file.get()))) {
    source.scratch_ = TRY(cache.MakeScratch());
    UniqueFd spool =
        TRY(sys::Open(source.scratch_->path() + "/archive.tar", O_RDWR | O_CREAT | O_EXCL, 0600));
    TRY_AS(Spool(file.get(), size, spool.get()), "decompressing the archive");
    size = static_cast<uint64_t>(TRY(sys::FStat(spool.get())).st_size);
    file = std::move(spool);
  }
  source.archive_ = std::move(file);
  TRY(source.IndexArchive(size));
  return source;
}

// Reads the headers only: the data between them are passed over by seeking.
Status ImageSource::IndexArchive(uint64_t size) {
  FdSource file(archive_.get(), 0, size);
  const auto tar = TRY(TarReader::Create(file));
  Member* last = nullptr;
  // Data end, padded, where the next entry's headers begin.
  const auto place_last = [&]() -> Status {
    if (last != nullptr) {
      const uint64_t padded = (last->size + kTarBlock - 1) / kTarBlock * kTarBlock;
      if (tar->position() < padded || tar->position() - padded + last->size > size) {
        return MakeError(ErrorCode::kInvalidArgument, "the archive is truncated");
      }
      last->offset = tar->position() - padded;
    }
    last = nullptr;
    return {};
  };
  while (const auto entry = TRY(tar->Next())) {
    TRY(place_last());
    const auto name = Normalize(entry->name);
    const bool is_link =
        entry->type == TarEntry::Type::kSymlink || entry->type == TarEntry::Type::kHardLink;
    if (!name || name->empty() || (entry->type != TarEntry::Type::kFile && !is_link)) {
      continue;
    }
    Member member;
    if (is_link) {
      // Old versions of `docker save` link equal layers: "<id>/layer.tar" -> "../<id>/layer.tar".
      const bool relative = entry->type == TarEntry::Type::kSymlink;
      member.link = Normalize((relative ? FolderOf(*name) : "") + entry->target).value_or("");
      if (member.link.empty()) {
        continue;
      }
    } else if (entry->sparse) {
      return MakeError(ErrorCode::kUnimplemented, "member {} of the archive is a sparse file",
                       JsonQuote(*name));
    }
    member.size = is_link ? 0 : entry->size;
    Member& stored = members_[*name] = std::move(member);
    last = is_link ? nullptr : &stored;
    if (members_.size() > kMaxMembers) {
      return MakeError(ErrorCode::kResourceExhausted, "the archive has more than {} files",
                       kMaxMembers);
    }
  }
  return place_last();
}

bool ImageSource::Has(const std::string& name) const {
  return folder_.empty() ? members_.contains(name) : sys::Exists(folder_ + "/" + name);
}

Result<ImageSource::Blob> ImageSource::Open(const std::string& name) const {
  const auto normal = Normalize(name);
  if (!normal || normal->empty() || name.starts_with('/')) {
    return MakeError(ErrorCode::kInvalidArgument, "{} is not a name inside the image",
                     JsonQuote(name.substr(0, 200)));
  }
  const auto missing = [&] {
    return MakeError(ErrorCode::kNotFound, "{} is missing", JsonQuote(name.substr(0, 200)));
  };
  Blob blob;
  if (!folder_.empty()) {
    auto file = sys::Open(folder_ + "/" + *normal, O_RDONLY | O_NONBLOCK);
    if (!file && file.error().code() == ErrorCode::kNotFound) {
      return missing();
    }
    blob.owned = TRY(std::move(file));
    blob.fd = blob.owned.get();
    const struct stat info = TRY(sys::FStat(blob.fd));
    if (!S_ISREG(info.st_mode)) {
      return MakeError(ErrorCode::kInvalidArgument, "{} is not a file", *normal);
    }
    blob.size = static_cast<uint64_t>(info.st_size);
    return blob;
  }
  auto it = members_.find(*normal);
  for (int links = 0; it != members_.end() && !it->second.link.empty(); ++links) {
    it = links < kMaxLinks ? members_.find(it->second.link) : members_.end();
  }
  if (it == members_.end()) {
    return missing();
  }
  blob.fd = archive_.get();
  blob.offset = it->second.offset;
  blob.size = it->second.size;
  return blob;
}

Result<std::string> ImageSource::Read(const std::string& name, size_t limit) const {
  const Blob blob = TRY(Open(name));
  if (blob.size > limit) {
    return MakeError(ErrorCode::kResourceExhausted, "{}: longer than the limit of {} bytes", name,
                     limit);
  }
  FdSource file(blob.fd, blob.offset, blob.size);
  std::string content;
  while (true) {
    const auto bytes = TRY_AS(file.Next(), "{}", name);
    if (bytes.empty()) {
      return content;
    }
    content.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
}

std::string ImageSource::SomeName() const {
  return members_.empty() ? "" : members_.begin()->first;
}

}  // namespace bulkhead::oci
