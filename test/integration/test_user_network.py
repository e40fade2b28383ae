"""`bulkhead run --network user`: by passt and by QEMU's own, in a network namespace of the test's.

The host is one namespace, "the internet" another, with a server; its resolv.conf is the test's, too.
"""

import contextlib
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import host as host_module
import images
import pytest

HERE = pathlib.Path(__file__).resolve().parent
HOST4, OUT4, HOST6, OUT6 = "203.0.113.2", "203.0.113.1", "2001:db8::2", "2001:db8::1"


def command(*words, check=True):
    told = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode == 0 or not check, f"{words}: {told.stderr}"
    return told


class Wires:
    """Two namespaces and the wire between them. The first has a default route over it."""

    def __init__(self, folder):
        self.keepers = []
        self.servers = []
        self.resolv = folder / "resolv.conf"
        self.resolv.write_text("nameserver 127.0.0.53\nsearch example.test\n")
        self.here, self.outside = self.keeper("-m"), self.keeper()
        on_host, on_outside = f"n{self.here}", f"n{self.outside}"
        self.on(self.here, "mount", "--bind", self.resolv, "/etc/resolv.conf")
        self.on(self.here, "ip", "link", "add", on_host, "type", "veth", "peer", "name", on_outside,
                "netns", str(self.outside))
        for pid, link, ip4, ip6 in ((self.here, on_host, HOST4, HOST6),
                                    (self.outside, on_outside, OUT4, OUT6)):
            for words in (["link", "set", "lo", "up"], ["addr", "add", f"{ip4}/24", "dev", link],
                          ["-6", "addr", "add", f"{ip6}/64", "dev", link, "nodad"],
                          ["link", "set", link, "up"]):
                self.on(pid, "ip", *words)
        self.on(self.here, "ip", "route", "add", "default", "via", OUT4)
        self.on(self.here, "ip", "-6", "route", "add", "default", "via", OUT6)
        self.serve(self.outside, "outside", OUT4, OUT6)
        self.serve(self.here, "loopback", "127.0.0.1", "127.0.0.53", "::1")

    def keeper(self, *flags):
        made = subprocess.Popen(["unshare", "-n", *flags, "sh", "-c", "echo; exec sleep 100000"],
                                stdout=subprocess.PIPE)
        self.keepers.append(made)
        made.stdout.readline()
        return made.pid

    @staticmethod
    def enter(pid):
        return ["nsenter", "-t", str(pid), "-n", "-m", "--"]

    def on(self, pid, *words, check=True):
        return command(*self.enter(pid), *map(str, words), check=check)

    def serve(self, pid, *arguments):
        made = subprocess.Popen([*self.enter(pid), sys.executable, "-B", HERE / "outside.py",
                                 *arguments], stdout=subprocess.PIPE)
        self.servers.append(made)
        assert made.stdout.readline() == b"ready\n"

    def close(self):
        for made in self.servers + self.keepers:
            made.kill()
            made.wait()
            made.stdout.close()


@pytest.fixture(scope="module")
def wires(tmp_path_factory):
    for program in ("ip", "nsenter", "unshare"):
        if not shutil.which(program):
            pytest.skip(f"{program} is missing")
    made = Wires(tmp_path_factory.mktemp("wires"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory, busybox_layer):
    """The usual one with user_net_probe.c, compiled."""
    if not shutil.which("gcc"):
        pytest.skip("gcc is missing")
    made = images.unpack(busybox_layer, tmp_path_factory.mktemp("net") / "rootfs")
    command("gcc", "-O1", "-static", "-o", str(made / "bin/net_probe"), str(HERE / "user_net_probe.c"))
    return made


class NetHost(host_module.Host):
    """The command, as it is started on the test's own host."""

    def __init__(self, wires, backend):
        self.wires, self.backend = wires, backend
        super().__init__()

    def configure(self, **settings):
        super().configure(**settings)
        if self.backend:
            with self.config.open("a") as file:
                file.write(f'[network]\nuser_backend = "{self.backend}"\n')

    def start(self, *arguments, **options):
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        options.setdefault("env", self.environment)
        return subprocess.Popen([*self.wires.enter(self.wires.here), host_module.PROGRAM,
                                 *map(str, arguments)], **options)

    def ask(self, pid, kind, address, port):
        """A question to a published port, asked in one of the namespaces."""
        script = ("import socket, sys\n"
                  "kind, address, port = sys.argv[1:]\n"
                  "family = socket.AF_INET6 if ':' in address else socket.AF_INET\n"
                  "made = socket.socket(family, getattr(socket, kind))\n"
                  "made.settimeout(5)\n"
                  "made.connect((address, int(port)))\n"
                  "made.sendall(b'hello')\n"
                  "print(made.recv(100).decode())\n")
        return self.wires.on(pid, sys.executable, "-c", script, kind, address, port,
                             check=False).stdout.strip()

    def ports(self):
        return json.loads(self("list", "--format", "json").ok().text)[0]["ports"]

    @contextlib.contextmanager
    def server(self, rootfs, options, *ports):
        """A container whose server listens at these ports."""
        process = self.start("run", "--rm", "--name", "server", *options, rootfs, "net_probe",
                             "serve", *ports)
        try:
            assert process.stdout.readline() == b"ready\n", process.stderr.read()
            yield process
        finally:
            self("kill", "server")
            process.communicate(timeout=host_module.PATIENCE)


@pytest.fixture(params=["passt", "slirp"])
def host(request, wires):
    if request.param == "passt" and not shutil.which("passt"):
        pytest.skip("passt is missing")
    made = NetHost(wires, request.param)
    yield made
    made.close()


def test_reaches_servers_outside(host, rootfs):
    told = host.shell(rootfs, f"net_probe tcp {OUT4} 7000 hi; net_probe udp {OUT4} 7000 ho;"
                              f"net_probe tcp {OUT6} 7000 hi; net_probe udp {OUT6} 7000 ho").ok()
    assert told.lines == ["answer: outside tcp hi", "answer: outside udp ho"] * 2, str(told)


def test_names(host, rootfs):
    """The host's name server is at its loopback; its search domains are the container's."""
    told = host.shell(rootfs, "cat /etc/resolv.conf; nslookup server.example.test")
    assert told.lines[:2] == ["nameserver 10.0.2.3", "search example.test"], str(told)
    assert f"Address: {OUT4}" in told.text, str(told)


def test_name_server_of_another_host(host, rootfs):
    host.wires.resolv.write_text(f"nameserver {OUT4}\nnameserver 127.0.0.53\noptions ndots:2\n")
    try:
        told = host.shell(rootfs, "cat /etc/resolv.conf; nslookup server.example.test").ok()
    finally:
        host.wires.resolv.write_text("nameserver 127.0.0.53\nsearch example.test\n")
    assert told.lines[:2] == [f"nameserver {OUT4}", "options ndots:2"]
    assert f"Address: {OUT4}" in told.text


@pytest.mark.parametrize("options", [[], ["-p", "5355:55/udp"]])
def test_the_hosts_loopback_is_out_of_reach(host, rootfs, options):
    """Neither by the gateway, nor by frames that no kernel would send."""
    told = host.shell(rootfs, "for ip in 10.0.2.2 10.0.2.4 fd62:756c:6b68::2; do"
                              "  net_probe tcp $ip 7000 hi; net_probe udp $ip 7000 hi; done;"
                              "net_probe udp 10.0.2.2 7000 hi 55;"  # from a published port, too
                              "ping -c 1 -W 1 10.0.2.2 > /dev/null;"
                              "for ip in 127.0.0.1 127.0.0.53 0.0.0.0; do"
                              "  net_probe forge $ip 7000; done", *options)
    assert len(told.lines) == 10 and "loopback" not in told.text, str(told)
    assert all(line.startswith("error: ") for line in told.lines[:7]), str(told)
    assert set(told.lines[7:]) <= {"silence", "refused"}, str(told)


def test_published_ports(host, rootfs):
    passt = host.backend == "passt"
    options = ["-p", "80:8080", "-p", "127.0.0.1:5353:53/udp", "-p", "9000-9002:9000-9002",
               "-p", "7", *(["-p", "[::1]:8081:8080"] if passt else [])]
    here, outside = host.wires.here, host.wires.outside
    with host.server(rootfs, options, "8080", "53", "9000", "9002", "7"):
        for pid, address in ((here, "127.0.0.1"), (outside, HOST4)):
            assert host.ask(pid, "SOCK_STREAM", address, 80) == "guest 8080 hello"
            assert host.ask(pid, "SOCK_STREAM", address, 9000) == "guest 9000 hello"
            assert host.ask(pid, "SOCK_STREAM", address, 9002) == "guest 9002 hello"
        assert host.ask(here, "SOCK_DGRAM", "127.0.0.1", 5353) == "guest 53 hello"
        assert host.ask(outside, "SOCK_DGRAM", HOST4, 5353) == ""  # not of this address
        chosen = re.fullmatch(r"(\d+):7/tcp", host.ports()[3])
        assert host.ask(outside, "SOCK_STREAM", HOST4, chosen[1]) == "guest 7 hello"
        if passt:
            assert host.ask(here, "SOCK_STREAM", "::1", 8081) == "guest 8080 hello"
            assert host.ask(outside, "SOCK_STREAM", HOST6, 80) == "guest 8080 hello"
    assert host.ask(here, "SOCK_STREAM", "127.0.0.1", 80) == ""


@pytest.mark.parametrize("client", ["here", "outside"])
def test_a_published_udp_port_of_all_addresses(host, rootfs, client):
    """One container for each: libslirp leaves a client at 127.0.0.1 alone after one from outside."""
    address = {"here": "127.0.0.1", "outside": HOST4}[client]
    with host.server(rootfs, ["-p", "5354:54/udp"], "54"):
        told = host.ask(getattr(host.wires, client), "SOCK_DGRAM", address, 5354)
    assert told == "guest 54 hello"


@pytest.mark.parametrize("publish, port", [("127.0.0.1:7000:80", "127.0.0.1 7000/tcp"),
                                           ("6999-7000:80-81/udp", "7000/udp")])
def test_a_port_in_use(host, rootfs, publish, port):
    host.run("-p", publish, rootfs, "true").fails(f"--publish: port {port}", "in use")


def test_files_in_etc(host, rootfs):
    told = host.shell(rootfs, "cat /etc/resolv.conf /etc/hosts /etc/hostname", "--hostname", "me",
                      "--dns", "192.0.2.53", "--dns-search", "a.test", "--dns-search", "b.test",
                      "--add-host", "db:192.0.2.7", "--add-host", "six:[2001:db8::7]").ok()
    assert told.lines == [
        "nameserver 192.0.2.53", "search a.test b.test", "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback", "10.0.2.15\tme", "192.0.2.7\tdb",
        "2001:db8::7\tsix", "me"]


def test_none_has_only_lo(host, rootfs):
    told = host.shell(rootfs, "ls /sys/class/net; cat /etc/resolv.conf", "--network", "none").ok()
    assert told.lines == ["lo", "# this container has no network"]


def test_passt_ends(host, rootfs):
    if host.backend != "passt":
        pytest.skip("QEMU's own network ends with QEMU")
    with host.server(rootfs, [], "80") as server:
        passt = [process for process in host.new_processes() if process.name.startswith("passt")]
        assert len(passt) == 1
        host_module.os.kill(passt[0].pid, signal.SIGKILL)
        told = host("exec", "server", "sh", "-c", f"net_probe tcp {OUT4} 7000 hi; echo alive").ok()
        assert told.lines[-1] == "alive" and "outside" not in told.text
        line = server.stderr.readline().decode()
        assert "no network any more: passt was killed by signal 9" in line


def test_the_daemon_is_killed(host, rootfs):
    """passt ends with the VM; the control group that it was in is removed by the next one."""
    with host.server(rootfs, ["-p", "81:80"], "80"):
        daemon = [process for process in host.new_processes() if "shim-bulkhead" in process.command]
        host_module.os.kill(daemon[0].pid, signal.SIGKILL)
        host_module.eventually(lambda: not [process for process in host.new_processes()
                                            if process.name.startswith(("passt", "qemu"))])
    assert host.ask(host.wires.here, "SOCK_STREAM", "127.0.0.1", 81) == ""
    host("rm", "server")
    host.run(rootfs, "true").ok()


class TestWithout:
    """Hosts that lack something."""

    @pytest.fixture
    def host(self, wires):
        made = NetHost(wires, None)
        yield made
        made.close()

    def test_no_routes(self, host, wires, rootfs):
        """passt wants a default route; QEMU's own network takes its place."""
        if not shutil.which("passt"):
            pytest.skip("passt is missing")
        wires.on(wires.here, "ip", "route", "del", "default")
        wires.on(wires.here, "ip", "-6", "route", "del", "default")
        try:
            told = host.shell(rootfs, f"net_probe tcp {OUT4} 7000 hi").ok()
        finally:
            wires.on(wires.here, "ip", "route", "add", "default", "via", OUT4)
            wires.on(wires.here, "ip", "-6", "route", "add", "default", "via", OUT6)
        assert told.lines == ["answer: outside tcp hi"]
        assert told.error == ""

    def test_nothing(self, host, rootfs):
        with host.config.open("a") as file:
            file.write('[network]\nuser_backend = "passt"\npasst = "/nonexistent"\n')
        told = host.shell(rootfs, "ls /sys/class/net").ok()
        assert told.lines == ["lo"] and "/nonexistent is not there" in told.error
        host.run("--network", "user", rootfs, "true").fails("--network user", "/nonexistent")
        host.run("-p", "80:80", rootfs, "true").fails("--network user", "/nonexistent")
