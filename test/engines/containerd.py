"""A containerd of the tests' own, driven by ctr, and what it leaves on the host.

It lives in namespaces made for it (private.py): neither the machine's containerd nor its CNI
configuration is touched or seen.
"""

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess

import settings
from host import PROGRAM, descendants, eventually
from private import PATH, Private

IMAGE, ALICE, PAUSE = "localhost/busybox:latest", "localhost/alice:latest", "localhost/pause:1"
FILTERS = "localhost/filters:latest"  # with iptables, of both kinds, and nft
CRI_NAMESPACE = "k8s.io"
SHIMS = {"runc": "runc", "bulkhead": "bulkhead", "bulkhead-oci": "runc"}
OURS = ("containers", "containers.lock", "engine-pods")  # bulkhead-oci's own, in runc's root
# ctr 2.x would warn of the host's control groups in what a test takes for a container's stderr.
QUIET = {"CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS": "1"}
CNI = {"cniVersion": "0.4.0", "name": "tests", "plugins": [
    {"type": "bridge", "bridge": "tests0", "isGateway": True,
     "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.202.0.0/24"}]],
              "routes": [{"dst": "0.0.0.0/0"}]}},
    {"type": "portmap", "capabilities": {"portMappings": True}}]}


def version(path):
    """Of the containerd that is first in this PATH, as 1.6.20."""
    program = shutil.which("containerd", path=path)
    told = subprocess.run([program, "--version"], check=True, capture_output=True, text=True,
                          timeout=30).stdout
    return re.match(r"v?(\d+\.\d+\.\d+)", told.split()[2])[1]


class Containerd(Private):
    """Called, it is ctr: `engine("task", "ls")`. Restarted, it finds its containers again.

    `name` is a runtime: runc, bulkhead (its shim), or bulkhead-oci (its command line, which runc's
    shim calls). `programs` is the folder of another containerd and ctr; `registry` see settings.py.
    """

    program = "ctr"

    def __init__(self, name, images, programs=None, registry=None):
        super().__init__()
        folders = [os.path.dirname(PROGRAM), *([programs] if programs else []), PATH]
        self.programs = os.pathsep.join(map(str, folders))
        self.version = version(self.programs)
        self.title = f"containerd {self.version}"
        self.major = int(self.version.split(".")[0])
        self.name, self.runtime = name, f"io.containerd.{SHIMS[name]}.v2"
        binary = PROGRAM if name == "bulkhead-oci" else ""
        # How a client of containerd chooses it.
        self.chosen = ["--runtime", self.runtime, *(["--runc-binary", binary] if binary else [])]
        self.namespace = self.label  # of ctr's containers, and their cgroup's name
        self.root, self.tasks = self.folder / "r", self.folder / "st"
        self.socket, self.log = self.folder / "c.sock", self.folder / "containerd.log"
        self.numbers = itertools.count()
        self.daemon = None
        self.settings = settings.write(
            self.folder, self.major, registry, root=self.root, state=self.tasks,
            socket=self.socket, pause=PAUSE, name=name, runtime=self.runtime,
            binary=binary)
        for folder in ("/etc/cni", "/opt/cni"):
            shutil.rmtree(self.path(folder), ignore_errors=True)
        self.path("/etc/cni/net.d").mkdir(parents=True)
        self.path("/etc/cni/net.d/10-tests.conflist").write_text(json.dumps(CNI))
        self.path("/opt/cni").mkdir(parents=True)
        self.path("/opt/cni/bin").symlink_to("/usr/lib/cni")  # where the ctr of containerd 2 looks
        try:
            self.up()
            for namespace, image in itertools.product((self.namespace, CRI_NAMESPACE), images):
                self("-n", namespace, "images", "import", image).ok()
        except BaseException:
            if self.daemon:
                self.daemon.kill()
            self.abandon()
            raise

    # --- the daemon
    def which(self, program):
        return shutil.which(program, path=self.programs)

    def up(self):
        with open(self.log, "ab") as log:
            self.daemon = subprocess.Popen(
                self.inside("setpriv", "--pdeathsig", "KILL", self.which("containerd"), "--config",
                            self.settings),
                env={**self.environment, "PATH": self.programs}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True)
        eventually(lambda: self.daemon.poll() is not None or self("version").code == 0,
                   what="containerd's start")
        assert self.daemon.poll() is None, self.log.read_text()[-2000:]

    def down(self, number=signal.SIGTERM):
        self.daemon.send_signal(number)
        self.daemon.wait(30)

    @contextlib.contextmanager
    def away(self, number=signal.SIGKILL):
        """The daemon is ended for a while; its containers run on."""
        self.down(number)
        try:
            yield
        finally:
            self.up()

    def log_since(self, size):
        return self.log.read_bytes()[size:].decode(errors="replace")

    # --- ctr
    def start(self, *arguments, **options):
        """Starts ctr; the caller waits for it."""
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        options.setdefault("env", {**self.environment, **QUIET})
        namespace = () if "-n" in arguments[:1] else ("-n", self.namespace)
        return subprocess.Popen(
            self.inside(self.which("ctr"), "-a", self.socket, *namespace, *arguments), **options)

    def words(self, name, *command, options=(), image=IMAGE):
        """Arguments that run the command in a new container."""
        return ["run", *self.chosen, *options, *([image] if image else []), name,
                *command]

    def run(self, name, *command, options=(), image=IMAGE, **rest):
        """Runs a container to its end."""
        return self(*self.words(name, *command, options=["--rm", *options], image=image), **rest)

    def running(self, name, script):
        """A container in the foreground whose script has said that it is ready."""
        process = self.start(*self.words(name, "sh", "-c", script, options=["--rm"]))
        line = process.stdout.readline()
        assert line == b"ready\n", (line, process.stderr.read())
        return process

    @contextlib.contextmanager
    def detached(self, name, *command, options=()):
        """A container in the background, removed at the end if the test did not."""
        self(*self.words(name, *command, options=["-d", *options])).ok()
        try:
            yield name
        finally:
            self.remove(name)

    def remove(self, name, namespace=None):
        where = ("-n", namespace or self.namespace)
        self(*where, "task", "rm", "-f", name)
        self(*where, "container", "rm", name)

    def reap(self, name):
        """Removes an ended task; its exit code."""
        told = self("task", "rm", name).ok()
        code = re.search(r"non-zero exit code (\d+)", told.error)
        return int(code[1]) if code else 0

    def exec(self, name, *command, options=(), **rest):
        return self(*self.exec_words(name, *command, options=options), **rest)

    def exec_words(self, name, *command, options=()):
        return ["task", "exec", "--exec-id", f"exec{next(self.numbers)}", *options, name, *command]

    def status(self, name):
        """RUNNING, STOPPED, PAUSED, or None for a task that does not exist."""
        lines = [line.split() for line in self("task", "ls").ok().lines[1:]]
        return next((status for task, _, status in lines if task == name), None)

    # --- what is there
    def new_processes(self):
        return [process for process in super().new_processes()
                if not self.daemon or process.pid != self.daemon.pid]

    def named(self, word):
        """Processes with this word in their program's name, by their pid."""
        return {process.pid: process for process in descendants(reap=False)
                if word in process.command.split(" ")[0]}

    def born(self, word, before):
        """The pid of the new process with this word in its program's name, not of its helpers."""
        new = {pid: found for pid, found in self.named(word).items() if pid not in before}
        top = [pid for pid, found in new.items() if found.parent not in new]
        assert len(top) == 1, f"{word}: {new}"
        return top[0]

    @property
    def run_folder(self):
        """/run as the daemon sees it."""
        return self.path("/run")

    def sockets(self):
        """The shims' sockets."""
        return set((self.run_folder / "containerd" / "s").glob("*"))

    def left_over(self):
        found = super().left_over()
        run = self.run_folder
        found += [f"socket {path}" for path in self.sockets()]
        for folder in (run / "netns", *run.glob("containerd/runc/*"),
                       *run.glob("containerd/runc/*/containers"),
                       *run.glob("containerd/runc/*/engine-pods"),
                       *self.root.glob("io.containerd.runtime.v2.task/*"),
                       *self.tasks.glob("io.containerd.runtime.v2.task/*"),
                       self.tasks / "io.containerd.grpc.v1.cri" / "netns"):
            if folder.is_dir():
                found += [f"file {path}" for path in folder.iterdir() if path.name not in OURS]
        found += [f"link {name}" for name in self.links() - {"tests0"}]
        return found + [f"container {namespace}/{name}" for namespace, name in self.containers()]

    def containers(self):
        if self.daemon.poll() is not None:
            return []
        return [(namespace, name) for namespace in (self.namespace, CRI_NAMESPACE)
                for name in self("-n", namespace, "container", "ls", "-q").ok().text.split()]

    def sweep(self):
        """After a test that failed to: ends and removes what there is."""
        if self.daemon.poll() is not None:
            self.up()
        for namespace, name in self.containers():
            with contextlib.suppress(AssertionError):  # not done in time
                self.remove(name, namespace)
        super().sweep()
        for path in self.sockets():
            path.unlink()

    def close(self):
        self.sweep()
        self.down()
        super().close()


class Events:
    """What containerd publishes while the block lasts, as `ctr events` prints it."""

    LINE = re.compile(r"(\S+) (/\S+) (\{.*\})$")

    def __init__(self, engine):
        self.engine = engine
        self.path = engine.folder / f"events-{next(engine.numbers)}"

    def __enter__(self):
        with open(self.path, "wb") as out:
            self.process = self.engine.start("events", stdout=out, stderr=subprocess.DEVNULL)
        # It does not say when it has subscribed: change a label until that is told.
        eventually(lambda: self.engine("namespaces", "label", self.engine.namespace,
                                       f"n=v{next(self.engine.numbers)}").ok() and
                   "/namespaces/update" in self.path.read_text(), what="the subscription")
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(10)
        self.path.unlink()

    def of(self, name):
        """(topic, payload) of what happened to a task, in the order of its arrival."""
        found = []
        for line in self.path.read_text().splitlines():
            match = self.LINE.search(line)
            if match and match[2].startswith("/tasks/"):
                payload = json.loads(match[3])
                if payload.get("container_id") == name:
                    found.append((match[2].removeprefix("/tasks/"), payload))
        return found

    def wait(self, name, topic):
        """All events of a task once one with this topic is among them."""
        eventually(lambda: topic in [seen for seen, _ in self.of(name)],
                   what=f"the event {topic}")
        return self.of(name)
