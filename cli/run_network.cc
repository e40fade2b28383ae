#include "cli/run_network.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "cli/program_output.h"
#include "shim/network/user_link.h"

namespace bulkhead::cli {
namespace {

std::vector<std::string> NameServers(const RunOptions& options, const shim::HostResolver& host) {
  if (!options.dns.empty()) {
    return options.dns;
  }
  std::vector<std::string> servers = DirectServers(host);
  if (servers.empty()) {
    const bool ip4 = std::any_of(host.servers.begin(), host.servers.end(), [](const auto& server) {
      return server.find(':') == std::string::npos;
    });
    servers.emplace_back(ip4 ? shim::kUserDns4 : shim::kUserDns6);
  }
  return servers;
}

}  // namespace

Result<bool> QemuHasUserNetwork(const std::string& qemu) {
  const std::string text = TRY(OutputOf({qemu, "-nodefaults", "-netdev", "help"}));
  return text.find("\nuser\n") != std::string::npos;
}

Result<bool> ChooseNetwork(Context& context, const Config& config, const RunOptions& options) {
  if (options.network == "none") {
    return false;
  }
  const std::string passt = FindPasst(config);
  if (!passt.empty() && ::access(passt.c_str(), X_OK) == 0) {
    return true;
  }
  if (config.user_backend != "passt" && QemuHasUserNetwork(config.qemu).value_or(false)) {
    return true;
  }
  const std::string reason = passt.empty() ? "there is no passt, and QEMU has no network of its own"
                                           : passt + " is not there";
  if (options.network == "user") {
    return MakeError(ErrorCode::kNotFound, "--network user: {}: install passt", reason);
  }
  context.Warn("the container has no network: " + reason +
               " (install passt; --network none does without this warning)");
  return false;
}

std::string HostsFile(const RunOptions& options, const std::string& hostname, bool network) {
  const std::string full =
      options.domainname.empty() ? hostname : hostname + "." + options.domainname + " " + hostname;
  std::string text =
      fmt::format("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{}\t{}\n",
                  network ? shim::kUserAddress4 : "127.0.1.1", full);
  for (const auto& [name, address] : options.add_hosts) {
    text += fmt::format("{}\t{}\n", address, name);
  }
  return text;
}

std::string ResolvConfFile(const RunOptions& options, bool network,
                           const shim::HostResolver& host) {
  std::string text = network ? "" : "# this container has no network\n";
  if (network || !options.dns.empty()) {
    for (const std::string& server : NameServers(options, host)) {
      text += fmt::format("nameserver {}\n", server);
    }
  }
  std::vector<std::string> search = options.dns_search;
  if (search.empty() && network) {
    search = host.search;
  }
  std::erase(search, ".");  // as docker has it: no search
  if (!search.empty()) {
    text += fmt::format("search {}\n", fmt::join(search, " "));
  }
  if (network && options.dns.empty() && !host.options.empty()) {
    text += fmt::format("options {}\n", host.options);
  }
  return text;
}

}  // namespace bulkhead::cli
