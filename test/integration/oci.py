"""The OCI runtime command line as containerd-shim-runc-v2, conmon and buildah call it: this process
is the subreaper that adopts what stands for a container, and waits for it."""

import array
import contextlib
import copy
import json
import os
import pathlib
import shutil
import socket

from host import PATIENCE, eventually

NAMESPACES = [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")]
MOUNTS = [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
     "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
    {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
     "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
]
CAPABILITIES = ["CAP_KILL", "CAP_CHOWN", "CAP_SETUID", "CAP_SETGID", "CAP_DAC_OVERRIDE"]


def spec(script, terminal=False, **changes):
    process = {"terminal": terminal, "user": {"uid": 0, "gid": 0}, "cwd": "/",
               "args": ["sh", "-c", script] if isinstance(script, str) else script,
               "env": ["PATH=/bin", "TERM=xterm"],
               "capabilities": {kind: CAPABILITIES for kind in
                                ("bounding", "effective", "permitted")}}
    linux = {"namespaces": copy.deepcopy(NAMESPACES), "cgroupsPath": "/bulkhead-test/box",
             **changes.pop("linux", {})}
    return {"ociVersion": "1.0.2", "process": process, "root": {"path": "rootfs"},
            "hostname": "box", "mounts": copy.deepcopy(MOUNTS), "linux": linux, **changes}


class Engine:
    """One root, and its bundles."""

    def __init__(self, host, rootfs):
        self.host, self.rootfs = host, rootfs
        self.log = host.folder / "log.json"
        self.containers = []

    def __call__(self, *arguments, **options):
        return self.host("--root", self.host.state, "--log", self.log, "--log-format", "json",
                         *arguments, **options)

    def last_error(self):
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line["msg"] for line in lines if line["level"] == "error"][-1]

    def bundle(self, name, document):
        folder = self.host.folder / "b" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "rootfs").symlink_to(self.rootfs)
        document["root"]["path"] = str(self.rootfs)
        document["linux"]["cgroupsPath"] = f"/bulkhead-test-{os.getpid()}-{name}"
        (folder / "config.json").write_text(json.dumps(document))
        return folder

    def create(self, name, document, *options, **rest):
        container = Container(self, name, self.bundle(name, document))
        self.containers.append(container)
        container.create(*options, **rest)
        return container

    def state(self, name):
        return json.loads(self("state", name).ok().text)

    def close(self):
        for container in self.containers:
            container.close()


def new_pipe():
    read, write = os.pipe()
    return os.fdopen(read, "rb", 0), os.fdopen(write, "wb", 0)


class Container:
    def __init__(self, engine, name, bundle):
        self.engine, self.name, self.bundle = engine, name, bundle
        self.pid_file = bundle / "init.pid"
        self.pid = 0
        self.stdin = self.stdout = self.stderr = None
        self.created = None

    def create(self, *options, pipes=True, succeeds=True, **rest):
        inner, self.stdin = new_pipe()
        self.stdout, out = new_pipe()
        self.stderr, err = new_pipe()
        arguments = ["create", "--bundle", self.bundle, "--pid-file", self.pid_file, *options,
                     self.name]
        streams = {"stdin": inner, "stdout": out, "stderr": err} if pipes else {}
        process = self.engine.host.start("--root", self.engine.host.state, "--log",
                                         self.engine.log, "--log-format", "json", *arguments,
                                         **streams, **rest)
        assert process.wait(PATIENCE) is not None
        for stream in (inner, out, err):
            stream.close()
        self.created = process.returncode
        if succeeds:
            assert self.created == 0, self.engine.log.read_text()
            self.pid = int(self.pid_file.read_text())

    def start(self):
        self.engine("start", self.name).ok()
        return self

    def wait(self):
        """The exit status of the process whose pid the engine was given, as waitpid tells it."""
        def ended():
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            return (status,) if pid else None
        status = eventually(ended, what=f"the end of {self.name}")[0]
        self.pid = 0
        return status

    def output(self):
        return self.stdout.read(), self.stderr.read()

    def delete(self, *options):
        return self.engine("delete", *options, self.name)

    def close(self):
        with contextlib.suppress(Exception):
            self.delete("--force")
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream and not stream.closed:
                stream.close()


class ConsoleSocket:
    """Where a runtime sends the terminal to."""

    def __init__(self, folder):
        self.path = pathlib.Path(folder) / "console.sock"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen()
        self.listener.settimeout(PATIENCE)

    def receive(self):
        connection, _ = self.listener.accept()
        with connection:
            fds = array.array("i")
            _, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(fds.itemsize))
            fds.frombytes(ancillary[0][2][:fds.itemsize])
        self.listener.close()
        return fds[0]


def network_of(pid):
    return os.stat(f"/proc/{pid}/ns/net").st_ino


def open_fds(pid):
    return {name: os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}


def refused(engine, document, *words):
    """A container that cannot be created, and why; the caller closes it."""
    box = Container(engine, "bad", engine.bundle("bad", document))
    box.create(succeeds=False)
    assert box.created == 1
    for word in words:
        assert word in engine.last_error(), engine.last_error()
    engine("state", "bad").fails("does not exist", code=1)
    return box
