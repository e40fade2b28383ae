#include "agent/huge_pages.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <string_view>

#include "base/sys.h"
#include "oci/words.h"

namespace bulkhead::agent {
namespace {

Result<uint64_t> ReadNumber(const std::string& path) {
  const std::string text = TRY(sys::ReadFile(path));
  uint64_t value = 0;
  if (std::from_chars(text.data(), text.data() + text.size(), value).ec != std::errc()) {
    return MakeError(ErrorCode::kInternal, "{}: \"{}\" is no number", path, text);
  }
  return value;
}

// "MemFree:   1234 kB", in MiB; 0 if it is not there.
uint64_t MebibytesOf(std::string_view meminfo, std::string_view name) {
  const size_t line = meminfo.find(name);
  const size_t digits = meminfo.find_first_of("0123456789", line);
  uint64_t value = 0;
  if (line != std::string_view::npos && digits != std::string_view::npos) {
    std::from_chars(meminfo.data() + digits, meminfo.data() + meminfo.size(), value);
  }
  return value >> 10U;
}

}  // namespace

HugePages::Claim::~Claim() {
  if (counts_.empty()) {
    return;  // nobody waits for those who have none
  }
  const std::lock_guard lock(pages_.mutex_);
  for (const auto& [page_bytes, count] : counts_) {
    static_cast<void>(pages_.Change(page_bytes, count, 0));
  }
}

Status HugePages::Claim::Set(uint64_t page_bytes, uint64_t bytes) {
  const std::lock_guard own(mutex_);
  const auto found = counts_.find(page_bytes);
  const uint64_t from = found == counts_.end() ? 0 : found->second;
  const uint64_t to = bytes / page_bytes;
  if (from == to) {
    return {};  // without waiting for others, who may take long
  }
  const std::lock_guard lock(pages_.mutex_);
  TRY(pages_.Change(page_bytes, from, to));
  counts_[page_bytes] = to;
  return {};
}

Status HugePages::Claim::Set(const std::vector<oci::HugepageLimit>& limits) {
  for (const oci::HugepageLimit& limit : limits) {
    const uint64_t page_bytes = TRY(oci::PageSizeBytes(limit.page_size));
    TRY_AS(Set(page_bytes, limit.unlimited() ? 0 : limit.limit), "linux.resources.hugepageLimits");
  }
  return {};
}

Status HugePages::Change(uint64_t page_bytes, uint64_t from, uint64_t to) {
  const std::string path = fmt::format("{}/hugepages-{}kB", folder_, page_bytes >> 10U);
  auto pool = pools_.find(page_bytes);
  if (pool == pools_.end()) {
    const auto at_boot = ReadNumber(path + "/nr_hugepages");
    if (!at_boot && at_boot.error().errnum() == ENOENT) {
      return MakeError(ErrorCode::kUnimplemented, "the guest has no pages of {} kB",
                       page_bytes >> 10U);
    }
    pool = pools_.emplace(page_bytes, Pool{TRY(at_boot), 0}).first;
  }
  Pool& of = pool->second;
  const uint64_t claimed = of.claimed - from + to;
  const Status filled = Fill(path, page_bytes, std::max(of.at_boot, claimed));
  if (!filled && to > from) {
    static_cast<void>(Fill(path, page_bytes, std::max(of.at_boot, of.claimed)));
    return filled;
  }
  of.claimed = claimed;
  return filled;
}

// The kernel takes any number, and then has as many as it found memory for, at everybody's cost: a
// number that is out of reach is not tried. Pages beyond the number that are in use stay until they
// are free.
Status HugePages::Fill(const std::string& path, uint64_t page_bytes, uint64_t count) const {
  const std::string memory = sys::ReadFile(meminfo_).value_or("");
  uint64_t have = TRY(ReadNumber(path + "/nr_hugepages"));
  const uint64_t room = MebibytesOf(memory, "MemAvailable:") << 20U;
  if (count <= have || (count - have) <= room / page_bytes) {
    TRY(sys::WriteExisting(path + "/nr_hugepages", std::to_string(count)));
    const uint64_t all = TRY(ReadNumber(path + "/nr_hugepages"));
    have = all - std::min(all, TRY(ReadNumber(path + "/surplus_hugepages")));
    if (have >= count) {
      return {};
    }
  } else {
    have += room / page_bytes;
  }
  return MakeError(ErrorCode::kResourceExhausted,
                   "{} pages of {} kB are wanted in all, and the virtual machine has room for {}: "
                   "of its {} MiB of memory {} MiB are free; give it more memory",
                   count, page_bytes >> 10U, have, MebibytesOf(memory, "MemTotal:"),
                   MebibytesOf(memory, "MemFree:"));
}

}  // namespace bulkhead::agent
