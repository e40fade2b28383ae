"""Network namespaces, and the CNI plugins of the distribution called as an engine calls them.

A `Netns` stands for a node, for what is beyond it, or is a pod's. Plugins run in the node's, so
that their bridges and rules are never the machine's.
"""

import contextlib
import ctypes
import itertools
import json
import os
import pathlib
import subprocess

from host import PATIENCE, eventually

PLUGINS = pathlib.Path("/usr/lib/cni")
VERSION = "1.0.0"
CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)
# What the kernel counts, or changes by itself: with an interface's first qdisc its queue gets a
# length.
VOLATILE = {"valid_life_time", "preferred_life_time", "expires", "used", "refcnt", "stats",
            "probes", "confirmed", "updated", "tentative", "txqlen"}


class Netns:
    """A network namespace that is mounted at a path, with lo up."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.path.touch()
        subprocess.run(["unshare", f"--net={self.path}", "ip", "link", "set", "lo", "up"],
                       check=True, timeout=PATIENCE)

    def close(self):
        subprocess.run(["umount", "-l", str(self.path)], check=True, timeout=PATIENCE)
        self.path.unlink()

    def command(self, *words):
        return ["nsenter", f"--net={self.path}", *map(str, words)]

    def __call__(self, *words, **options):
        """What the command prints in there."""
        options.setdefault("timeout", PATIENCE)
        done = subprocess.run(self.command(*words), capture_output=True, text=True, check=False,
                              **options)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def code(self, *words):
        return subprocess.run(self.command(*words), capture_output=True, timeout=PATIENCE,
                              check=False).returncode

    def start(self, *words, **options):
        return subprocess.Popen(self.command(*words), **options)

    @contextlib.contextmanager
    def entered(self):
        """This thread in the namespace: sockets made meanwhile belong there."""
        with open("/proc/thread-self/ns/net") as ours, open(self.path) as theirs:
            assert LIBC.setns(theirs.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            try:
                yield
            finally:
                assert LIBC.setns(ours.fileno(), CLONE_NEWNET) == 0

    def join(self, other, ours, theirs, *addresses):
        """A cable to the other one: addresses are pairs, ours and theirs."""
        self("ip", "link", "add", ours, "type", "veth", "peer", "name", theirs, "netns",
             other.path)
        for here, there in addresses:
            nodad = ["nodad"] if ":" in here else []
            self("ip", "addr", "add", here, "dev", ours, *nodad)
            other("ip", "addr", "add", there, "dev", theirs, *nodad)
        self("ip", "link", "set", ours, "up")
        other("ip", "link", "set", theirs, "up")

    def settle(self):
        """Waits for the end of the kernel's search for those who have the same IPv6 addresses."""
        eventually(lambda: "inet6" not in self("ip", "addr", "show", "tentative"),
                   what=f"the addresses of {self.path}")

    def snapshot(self):
        """All of its network that somebody has set, in words that can be compared."""
        self.settle()
        words = {"links": "ip -d -j link", "addresses": "ip -j addr", "rules": "ip -4 -j rule",
                 "rules 6": "ip -6 -j rule", "routes": "ip -4 -j route show table all",
                 "routes 6": "ip -6 -j route show table all", "qdiscs": "tc -j qdisc",
                 "neighbours": "ip -j neigh show nud permanent"}
        found = {name: steady(json.loads(self(*text.split()) or "[]"))
                 for name, text in words.items()}
        for name in ("links", "addresses"):
            found[name] = {each["ifname"]: each for each in found[name]}
        for link in found["links"]:
            for parent in ("root", "ingress"):
                shown = subprocess.run(
                    self.command("tc", "-j", "filter", "show", "dev", link, parent),
                    capture_output=True, text=True, timeout=PATIENCE, check=False).stdout.strip()
                found[f"filters of {link}, {parent}"] = json.loads(shown or "[]")
        return found


def steady(value):
    """Without what changes by itself."""
    if isinstance(value, dict):
        return {key: steady(inner) for key, inner in value.items()
                if key not in VOLATILE and not key.endswith("_timer")}
    if isinstance(value, list):
        return sorted((steady(inner) for inner in value), key=repr)
    return value


def difference(before, after, where=""):
    """[sentences]: what two snapshots differ in."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [found for key in sorted({*before, *after})
                for found in difference(before.get(key), after.get(key), f"{where}/{key}")]
    if isinstance(before, list) and isinstance(after, list):
        gone = [each for each in before if each not in after]
        new = [each for each in after if each not in before]
        if len(gone) == len(new) == 1 and gone[0] != new[0]:
            return difference(gone[0], new[0], where)
        return [f"{where}: {sign} {each}" for sign, list_ in (("-", gone), ("+", new))
                for each in list_]
    return [] if before == after else [f"{where}: {before} -> {after}"]


class Refused(Exception):
    """What a plugin says when it fails."""


class Network:
    """A list of plugins: what an engine has in a .conflist."""

    numbers = itertools.count()

    def __init__(self, node, name, *plugins):
        self.node, self.name, self.plugins = node, name, plugins

    def attach(self, pod, interface, **arguments):
        """ADD of each plugin; `arguments` are runtimeConfig, by capability."""
        made = Attachment(self, pod, interface, arguments)
        made.add()
        return made


class Attachment:
    """One interface of a pod."""

    def __init__(self, network, pod, interface, arguments):
        self.network, self.pod, self.interface = network, pod, interface
        self.arguments = arguments
        self.id = f"test-{os.getpid()}-{next(Network.numbers)}"
        self.result = None

    def _call(self, command, plugin):
        config = {"cniVersion": VERSION, "name": self.network.name, **plugin}
        if self.result:
            config["prevResult"] = self.result
        given = {name: self.arguments[name] for name in plugin.get("capabilities", {})
                 if name in self.arguments}
        if given:
            config["runtimeConfig"] = given
        environment = {"PATH": os.environ["PATH"], "CNI_COMMAND": command, "CNI_PATH": str(PLUGINS),
                       "CNI_CONTAINERID": self.id, "CNI_NETNS": str(self.pod.path),
                       "CNI_IFNAME": self.interface}
        done = subprocess.run(self.network.node.command(PLUGINS / plugin["type"]),
                              input=json.dumps(config), env=environment, capture_output=True,
                              text=True, timeout=PATIENCE, check=False)
        if done.returncode != 0:
            raise Refused(f"{plugin['type']} {command}: {done.stdout}{done.stderr}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def add(self):
        for plugin in self.network.plugins:
            self.result = self._call("ADD", plugin)

    def check(self):
        for plugin in self.network.plugins:
            self._call("CHECK", plugin)

    def delete(self):
        for plugin in reversed(self.network.plugins):
            self._call("DEL", plugin)

    @property
    def addresses(self):
        """Without their prefixes."""
        return [entry["address"].partition("/")[0] for entry in self.result["ips"]]


def host_local(folder, *subnets, routes=("0.0.0.0/0",)):
    return {"type": "host-local", "dataDir": str(folder),
            "ranges": [[{"subnet": subnet}] for subnet in subnets],
            "routes": [{"dst": route} for route in routes]}


def static(*addresses, routes=()):
    return {"type": "static", "addresses": [{"address": address} for address in addresses],
            "routes": [{"dst": dst, **({"gw": gateway} if gateway else {})}
                       for dst, gateway in routes]}


def has_link_type(kind):
    """The kernel can make such links; of those, those on top of a veth."""
    script = "ip link add name x0 type veth peer name x1 && " \
             f"ip link add name x2 link x0 type {kind}"
    return subprocess.run(["unshare", "--net", "sh", "-c", script], capture_output=True,
                          timeout=PATIENCE, check=False).returncode == 0
