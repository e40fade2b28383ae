#include "oci/user.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>

#include "base/log.h"

namespace bulkhead::oci {
namespace {

constexpr uint32_t kMaxId = std::numeric_limits<int32_t>::max();

struct PasswdEntry {
  std::string_view name;
  uint32_t uid = 0;
  uint32_t gid = 0;
  std::string_view home;
};

struct GroupEntry {
  std::string_view name;
  uint32_t gid = 0;
  std::vector<std::string_view> members;
};

std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) {
      return parts;
    }
    text.remove_prefix(end + 1);
  }
}

bool IsNumber(std::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::optional<uint32_t> ToId(std::string_view text) {
  uint32_t id = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (error != std::errc() || end != text.data() + text.size() || id > kMaxId) {
    return std::nullopt;
  }
  return id;
}

// The fields of each line with at least `count`; comments and the rest are passed over.
std::vector<std::vector<std::string_view>> Lines(std::string_view text, size_t count) {
  std::vector<std::vector<std::string_view>> lines;
  for (std::string_view line : Split(text, '\n')) {
    if (line.ends_with('\r')) {
      line.remove_suffix(1);
    }
    auto fields = Split(line, ':');
    if (!line.starts_with('#') && fields.size() >= count && !fields[0].empty()) {
      lines.push_back(std::move(fields));
    }
  }
  return lines;
}

std::vector<PasswdEntry> ParsePasswd(std::string_view text) {
  std::vector<PasswdEntry> entries;
  for (const auto& fields : Lines(text, 4)) {  // name:password:uid:gid:comment:home:shell
    const auto uid = ToId(fields[2]);
    const auto gid = ToId(fields[3]);
    if (uid && gid) {
      entries.push_back({fields[0], *uid, *gid, fields.size() > 5 ? fields[5] : ""});
    }
  }
  return entries;
}

std::vector<GroupEntry> ParseGroup(std::string_view text) {
  std::vector<GroupEntry> entries;
  for (const auto& fields : Lines(text, 3)) {  // name:password:gid:members
    if (const auto gid = ToId(fields[2])) {
      entries.push_back(
          {fields[0], *gid,
           fields.size() > 3 ? Split(fields[3], ',') : std::vector<std::string_view>()});
    }
  }
  return entries;
}

tl::unexpected<Error> OutOfRange(std::string_view id) {
  return MakeError(ErrorCode::kInvalidArgument,
                   "{} is out of range: user and group ids go from 0 to {}", JsonQuote(id), kMaxId);
}

Result<uint32_t> FindGroup(std::string_view name, const std::vector<GroupEntry>& groups) {
  for (const GroupEntry& entry : groups) {
    if (entry.name == name) {
      return entry.gid;
    }
  }
  if (!IsNumber(name)) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "unable to find group {}: no matching entries in group file", name);
  }
  const auto gid = ToId(name);
  if (!gid) {
    return OutOfRange(name);
  }
  return *gid;
}

// The user's entry: by name, else by number; a number without an entry has group 0.
Result<PasswdEntry> FindUser(std::string_view name, const std::vector<PasswdEntry>& users) {
  for (const PasswdEntry& entry : users) {
    if (entry.name == name) {
      return entry;
    }
  }
  if (!name.empty() && !IsNumber(name)) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "unable to find user {}: no matching entries in passwd file", name);
  }
  const auto uid = name.empty() ? std::optional<uint32_t>(0) : ToId(name);
  if (!uid) {
    return OutOfRange(name);
  }
  for (const PasswdEntry& entry : users) {
    if (entry.uid == *uid) {
      return entry;
    }
  }
  return PasswdEntry{"", *uid, 0, ""};
}

void AddGroup(User& user, uint32_t gid) {
  auto& gids = user.additional_gids;
  if (std::find(gids.begin(), gids.end(), gid) == gids.end()) {
    gids.push_back(gid);
  }
}

}  // namespace

Result<ResolvedUser> ResolveUserFrom(const std::string& spec, const std::string& passwd,
                                     const std::string& group,
                                     const std::vector<std::string>& extra_groups) {
  const auto users = ParsePasswd(passwd);
  const auto groups = ParseGroup(group);
  const std::string_view whole = spec;
  const size_t colon = whole.find(':');
  const std::string_view group_name =
      colon == std::string_view::npos ? "" : whole.substr(colon + 1);
  const PasswdEntry entry = TRY(FindUser(whole.substr(0, colon), users));

  ResolvedUser resolved;
  resolved.name = entry.name;
  if (!entry.home.empty()) {
    resolved.home = entry.home;
  }
  resolved.user.uid = entry.uid;
  resolved.user.gid = group_name.empty() ? entry.gid : TRY(FindGroup(group_name, groups));
  // The primary group is among the others, so that a program that drops the primary one by setgid
  // does not escape a rule made for it.
  AddGroup(resolved.user, resolved.user.gid);
  if (group_name.empty() && !entry.name.empty()) {
    for (const GroupEntry& other : groups) {
      if (std::find(other.members.begin(), other.members.end(), entry.name) !=
          other.members.end()) {
        AddGroup(resolved.user, other.gid);
      }
    }
  }
  for (const std::string& name : extra_groups) {
    AddGroup(resolved.user, TRY(FindGroup(name, groups)));
  }
  return resolved;
}

}  // namespace bulkhead::oci
