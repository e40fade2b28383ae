// Any bytes as a layer: nothing outside its folder may be touched, and the folder can be removed.
// Headers get the checksum that they should have, which no mutation would ever find.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/sys.h"
#include "base/temp_dir.h"
#include "oci/layer.h"

namespace {

void FixChecksums(std::string& tar) {
  constexpr size_t kBlock = 512;
  constexpr size_t kSize = 124;
  constexpr size_t kChecksum = 148;
  for (size_t at = 0; at + kBlock <= tar.size();) {
    tar.replace(at + kChecksum, 8, 8, ' ');
    unsigned sum = 0;
    for (size_t i = at; i < at + kBlock; ++i) {
      sum += static_cast<unsigned char>(tar[i]);
    }
    tar.replace(at + kChecksum, 8, fmt::format("{:06o}", sum) + std::string("\0 ", 2));
    const size_t size = std::strtoul(tar.substr(at + kSize, 11).c_str(), nullptr, 8);
    at += kBlock + (std::min(size, tar.size()) + kBlock - 1) / kBlock * kBlock;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace bulkhead;
  // On tmpfs where there is one: many short-lived files.
  static const TempDir outside =
      *TempDir::Create(sys::IsDirectory("/dev/shm") ? "/dev/shm/fuzz-" : "/tmp/fuzz-");
  const std::string folder = outside.path() + "/layer";
  const std::string victim = outside.path() + "/victim";
  if (!sys::Exists(victim) && !sys::WriteFile(victim, "precious", 0600)) {
    std::abort();
  }
  const UniqueFd blob = *sys::MemFd("layer");
  std::string text(reinterpret_cast<const char*>(data), size);
  FixChecksums(text);
  if (!sys::WriteAll(blob.get(), text) || !sys::Mkdir(folder)) {
    std::abort();
  }
  (void)oci::UnpackLayer({blob.get(), 0, size, std::nullopt, oci::DigestOf(text)}, folder);
  const auto info = sys::LStat(victim);
  if (!RemoveTree(folder) || !info || info->st_nlink != 1 || info->st_mode != (S_IFREG | 0600U) ||
      info->st_uid != ::geteuid() || *sys::ReadFile(victim) != "precious" ||
      sys::ListDirectory(outside.path())->size() != 1) {
    std::abort();
  }
  return 0;
}
