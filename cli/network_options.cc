// The options of `bulkhead run` that are about its network.
#include <arpa/inet.h>

#include <algorithm>
#include <cctype>

#include "cli/option_values.h"
#include "cli/run_options.h"

namespace bulkhead::cli {
namespace {

constexpr size_t kMaxName = 253;

Status CheckIp(const std::string& text) {
  in6_addr address{};
  if (::inet_pton(AF_INET, text.c_str(), &address) != 1 &&
      ::inet_pton(AF_INET6, text.c_str(), &address) != 1) {
    return MakeError(ErrorCode::kInvalidArgument, "\"{}\" is not an IP address", text);
  }
  return {};
}

// Of a host or a domain: it goes into a file of lines and words.
Status CheckDnsName(const std::string& name) {
  const bool good =
      !name.empty() && name.size() <= kMaxName && std::all_of(name.begin(), name.end(), [](char c) {
        return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '-' || c == '_';
      });
  return good ? Status()
              : MakeError(ErrorCode::kInvalidArgument, "\"{}\" is not a name of the DNS", name);
}

Result<std::pair<std::string, std::string>> ParseHost(const std::string& text) {
  const size_t colon = text.find(':');
  if (colon == std::string::npos) {
    return MakeError(ErrorCode::kInvalidArgument, "\"{}\" is not of the form NAME:IP", text);
  }
  std::string address = text.substr(colon + 1);
  if (address.size() > 2 && address.starts_with('[') && address.ends_with(']')) {
    address = address.substr(1, address.size() - 2);
  }
  TRY(CheckDnsName(text.substr(0, colon)));
  TRY(CheckIp(address));
  return std::pair(text.substr(0, colon), std::move(address));
}

}  // namespace

Status ParseNetworkOptions(const RawRunOptions& raw, RunOptions& options) {
  options.network = raw.network;
  if (!raw.network.empty() && raw.network != "none" && raw.network != "user") {
    return MakeError(ErrorCode::kInvalidArgument, "--network: \"{}\" is neither none nor user",
                     raw.network);
  }
  for (const std::string& text : raw.publish) {
    options.publish.push_back(TRY_AS(shim::ParsePublishedPorts(text), "--publish"));
  }
  TRY_AS(shim::CheckPublishedPorts(options.publish), "--publish");
  if (!options.publish.empty()) {
    if (options.network == "none") {
      return MakeError(ErrorCode::kInvalidArgument,
                       "--publish and --network none exclude each other");
    }
    options.network = "user";
  }
  for (const std::string& text : raw.dns) {
    TRY_AS(CheckIp(text), "--dns");
  }
  options.dns = raw.dns;
  for (const std::string& text : raw.dns_search) {
    TRY_AS(CheckDnsName(text), "--dns-search");
  }
  options.dns_search = raw.dns_search;
  for (const std::string& text : raw.add_hosts) {
    options.add_hosts.push_back(TRY_AS(ParseHost(text), "--add-host"));
  }
  return {};
}

}  // namespace bulkhead::cli
