// Any bytes as a layer: nothing outside its folder may be touched, and the folder can be removed.
#include <sys/stat.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/sys.h"
#include "base/temp_dir.h"
#include "oci/layer.h"

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
  const std::string_view text(reinterpret_cast<const char*>(data), size);
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
