"""A node with pods: everything in network namespaces of the test's own.

    world --- up0 [node] br0 --- eth0 of the pods
    side  --- wire0, dev3 [node]: what macvlans lie on, and a device to be moved into a pod
"""

import contextlib
import fcntl
import json
import os
import select
import shutil
import struct
import subprocess
import threading

import images
import oci
import pytest
from cni import Netns, Network, host_local, static
from host import PATIENCE, Host, eventually

PORT = 7000
PROBE = "/bin/net-probe"
PROGRAMS = ["/usr/sbin/ip", "/usr/bin/iperf3"]
CAPABILITIES = [*oci.CAPABILITIES, "CAP_NET_RAW", "CAP_NET_ADMIN", "CAP_SETPCAP"]
WORLD, WORLD6 = "203.0.113.2", "2001:db8:f::2"
NODE, NODE6 = "203.0.113.1", "2001:db8:f::1"
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 2, 0x1000


def rootfs_with_tools(folder):
    """busybox, iproute2, iperf3, and the probe."""
    source = os.path.join(os.path.dirname(__file__), "net_probe.c")
    if not shutil.which("gcc"):
        pytest.skip("gcc is missing")
    images.unpack(images.busybox_layer(), folder)
    images.unpack(images.programs_layer(PROGRAMS), folder)
    subprocess.run(["gcc", "-std=gnu11", "-O1", "-static", "-Wall", "-Wextra", "-o",
                    str(folder / PROBE.lstrip("/")), source], check=True, timeout=PATIENCE)
    return folder


def sysctl(netns, **values):
    for name, value in values.items():
        path = "/proc/sys/" + name.replace("__", "/")
        netns("sh", "-c", f"echo {value} > {path}")


class Lab:
    """One runtime's."""

    def __init__(self, kind, rootfs, mtu=1400, **settings):
        self.kind, self.is_vm, self.rootfs = kind, kind != "runc", rootfs
        self.host = Host(**settings)
        if not self.is_vm:
            self.host.executable = kind
        self.engine = oci.Engine(self.host, rootfs)
        self.pods, self.servers = [], []
        self.node, self.world, self.side = (Netns(self.host.folder / name)
                                            for name in ("node", "world", "side"))
        self.node.join(self.world, "up0", "eth0", (NODE + "/24", WORLD + "/24"),
                       (NODE6 + "/64", WORLD6 + "/64"))
        self.node.join(self.side, "wire0", "eth0")
        self.side("ip", "addr", "add", "10.5.0.1/24", "dev", "eth0")
        self.node.join(self.side, "dev3", "eth1")
        self.side("ip", "addr", "add", "10.7.0.1/24", "dev", "eth1")
        sysctl(self.node, net__ipv4__ip_forward=1, net__ipv6__conf__all__forwarding=1)
        for where, gateway in (("10.4.0.0/16", NODE), ("10.6.0.0/16", NODE),
                               ("fd00:4::/32", NODE6)):
            self.world("ip", "route", "add", where, "via", gateway)
        self.bridge = Network(self.node, "bridge", {
            "type": "bridge", "bridge": "br0", "isGateway": True, "hairpinMode": True, "mtu": mtu,
            "ipam": host_local(self.host.folder / "ipam", "10.4.1.0/24", "fd00:4:1::/64",
                               routes=("0.0.0.0/0", "::/0"))},
            {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True})

    def ptp(self, subnet, *more, mtu=1500, routes=()):
        return Network(self.node, "ptp", {
            "type": "ptp", "mtu": mtu, "ipam": host_local(self.host.folder / "ipam", subnet,
                                                          routes=routes)}, *more)

    def macvlan(self, *addresses):
        return Network(self.node, "macvlan", {"type": "macvlan", "master": "wire0",
                                              "mode": "bridge", "ipam": static(*addresses)})

    def host_device(self, device, *addresses):
        return Network(self.node, "device", {"type": "host-device", "device": device,
                                             "ipam": static(*addresses)})

    def serve(self, netns, port=PORT):
        """The probe's server in a namespace that is no pod's."""
        server = netns.start(self.rootfs / PROBE.lstrip("/"), "serve", port,
                             stdout=subprocess.PIPE)
        self.servers.append(server)
        assert server.stdout.readline() == b"ready\n"

    def probe(self, netns, *words):
        """What the probe says, run in a namespace that is no pod's."""
        return netns(self.rootfs / PROBE.lstrip("/"), *words).strip()

    def pod(self, name):
        made = Pod(self, name)
        self.pods.append(made)
        return made

    def remove(self, pod):
        self.pods.remove(pod)
        pod.close()

    def close(self):
        with contextlib.ExitStack() as stack:
            stack.callback(self.host.close)
            for netns in (self.node, self.world, self.side):
                stack.callback(netns.close)
            for server in self.servers:
                stack.callback(server.stdout.close)
                stack.callback(server.wait, 10)
                stack.callback(server.kill)
            for pod in self.pods:
                stack.callback(pod.close)


class Pod:
    """A namespace, what is attached to it, and a container in it."""

    def __init__(self, lab, name):
        self.lab, self.name = lab, name
        self.netns = Netns(lab.host.folder / f"pod-{name}")
        self.attached = []
        self.container = None

    def attach(self, network, interface, **arguments):
        made = network.attach(self.netns, interface, **arguments)
        self.attached.append(made)
        return made

    def detach(self, attachment):
        self.attached.remove(attachment)
        attachment.delete()

    def create(self, script=f"exec {PROBE} serve {PORT}"):
        document = oci.spec(script)
        document["process"]["env"] = ["PATH=/bin:/usr/bin"]
        document["process"]["capabilities"] = {
            kind: CAPABILITIES for kind in ("bounding", "effective", "permitted")}
        for entry in document["linux"]["namespaces"]:
            if entry["type"] == "network":
                entry["path"] = str(self.netns.path)
        self.container = self.lab.engine.create(self.name, document)
        return self

    def start(self):
        self.container.start()
        eventually(lambda: self.container.stdout.readline() == b"ready\n", what="the server")
        return self

    def run(self, script, code=0):
        """What a script in the container prints."""
        return self.lab.engine("exec", self.name, "sh", "-c", script).ok(code).text.strip()

    def probe(self, *words):
        return self.run(" ".join(map(str, (PROBE, *words))))

    def ip(self, *words):
        """What iproute2 says in the container."""
        return json.loads(self.run("/usr/sbin/ip -j " + " ".join(words)) or "[]")

    def pings(self, address, count=2):
        return f" {count} packets received" in self.run(f"ping -c {count} -W 5 {address} || true")

    def links(self):
        return {link["ifname"] for link in self.ip("link")}

    @property
    def address(self):
        return self.attached[0].addresses[0]

    @property
    def address6(self):
        return self.attached[0].addresses[1]

    def end(self):
        """Of its container; the namespace stays."""
        if self.container:
            self.container.delete("--force").ok()
            self.container.close()
            with contextlib.suppress(ChildProcessError):  # the search for processes reaps, too
                if self.container.pid:
                    self.container.wait()
        self.container = None

    def close(self):
        try:
            self.end()
            while self.attached:
                self.detach(self.attached[-1])
        finally:
            self.netns.close()


class TapPeer:
    """What slirp4netns is to a pod: a process that holds the other end of a tap in its namespace,
    here with an address that answers pings."""

    MAC = bytes.fromhex("020000000052")

    def __init__(self, netns, name, address):
        self.address = bytes(map(int, address.split(".")))
        with netns.entered():
            self.fd = os.open("/dev/net/tun", os.O_RDWR)
            fcntl.ioctl(self.fd, TUNSETIFF, struct.pack("16sH22x", name.encode(),
                                                        IFF_TAP | IFF_NO_PI))
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        while not self.stop.is_set():
            if select.select([self.fd], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):  # it is not up yet
                    reply = self.answer(os.read(self.fd, 65536))
                    if reply:
                        os.write(self.fd, reply)

    def answer(self, frame):
        source, kind, rest = frame[6:12], frame[12:14], frame[14:]
        head = source + self.MAC + kind
        if kind == b"\x08\x06" and rest[6:8] == b"\0\1" and rest[24:28] == self.address:
            return head + rest[:6] + b"\0\2" + self.MAC + self.address + rest[8:18]
        if kind == b"\x08\0" and rest[9] == 1 and rest[16:20] == self.address and rest[20] == 8:
            # Of an echo's answer only the type differs; so the checksum by as much.
            swapped = rest[:12] + rest[16:20] + rest[12:16]
            checksum = struct.unpack(">H", rest[22:24])[0] + 0x800
            checksum = (checksum & 0xFFFF) + (checksum >> 16)
            return head + swapped + b"\0\0" + struct.pack(">H", checksum) + rest[24:]
        return None

    def close(self):
        self.stop.set()
        self.thread.join(10)
        os.close(self.fd)
