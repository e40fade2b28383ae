#include "shim/upper_image.h"

#include <fcntl.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <span>

#include "base/sys.h"
#include "base/temp_dir.h"

namespace bulkhead::shim {
namespace {

constexpr std::chrono::seconds kPatience(60);
constexpr int kImageFd = 3;

// Neither the host's mke2fs.conf nor its version decides what the guest's kernel has to know.
// No journal: after a crash nobody reads it. No reserve for root, who is everybody in a container.
SpawnOptions MkfsCommand(const std::string& mkfs, int image, int words) {
  SpawnOptions options;
  options.program = mkfs;
  options.argv = {"mke2fs",  // by another name it would ask its file for what that means
                  "-q",
                  "-F",
                  "-b",
                  "4096",
                  "-i",
                  "8192",
                  "-I",
                  "256",
                  "-m",
                  "0",
                  "-T",
                  "default",
                  "-O",
                  "none,64bit,dir_index,dir_nlink,ext_attr,extent,extra_isize,filetype,flex_bg,"
                  "huge_file,large_file,sparse_super,uninit_bg",
                  "-E",
                  "lazy_itable_init=1,nodiscard",
                  fmt::format("/proc/self/fd/{}", kImageFd)};
  options.env = {"MKE2FS_CONFIG=/dev/null", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"};
  options.fds = {{image, kImageFd}, {words, 1}, {words, 2}};
  return options;
}

Result<UniqueFd> NamelessFile(const std::string& folder) {
  auto file = sys::Open(folder, O_TMPFILE | O_RDWR | O_EXCL, 0600);
  if (file || (file.error().errnum() != EOPNOTSUPP && file.error().errnum() != EISDIR)) {
    return file;
  }
  // A file system that knows no such thing, as an overlay of older kernels.
  const TempDir temp = TRY(TempDir::Create(folder + "/upper-"));
  return sys::Open(temp.path() + "/image", O_RDWR | O_CREAT | O_EXCL, 0600);
}

// What it wrote first, of what is there by now.
std::string FirstLine(const UniqueFd& pipe) {
  std::array<char, 1024> buffer{};
  (void)sys::SetNonblocking(pipe.get(), true);
  const auto count = sys::Read(pipe.get(), std::as_writable_bytes(std::span(buffer)));
  std::string text(buffer.data(), count.value_or(0));
  text.erase(0, text.find_first_not_of('\n'));
  return text.substr(0, text.find('\n'));
}

}  // namespace

Result<UniqueFd> MakeUpperImage(const std::string& folder, uint64_t size, const std::string& mkfs,
                                SpawnThread& spawner) {
  TRY(sys::MkdirAll(folder, 0700));
  UniqueFd image = TRY(NamelessFile(folder));
  TRY_AS(sys::Ftruncate(image.get(), static_cast<off_t>(size)), "{}", folder);
  sys::Pipe pipe = TRY(sys::MakePipe());
  auto child = spawner.Spawn(MkfsCommand(mkfs, image.get(), pipe.write.get()));
  if (!child) {
    return MakeError(child.error().code(), "{}: mkfs.ext4 is needed (package e2fsprogs)",
                     child.error().message());
  }
  pipe.write.Reset();
  const auto exit = TRY(child->Wait(kPatience));
  if (!exit || exit->ShellCode() != 0) {
    return MakeError(ErrorCode::kInternal, "{} failed ({}): {}", mkfs,
                     exit ? std::to_string(exit->ShellCode()) : "it hangs", FirstLine(pipe.read));
  }
  return image;
}

}  // namespace bulkhead::shim
