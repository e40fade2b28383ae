"""A containerd of the tests' own, driven by ctr, and what it leaves on the host.

It lives in a mount and a network namespace made for it: /run, /etc and /var/lib are private there,
so that neither the machine's containerd nor its CNI configuration is touched or seen.
"""

import contextlib
import ctypes
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess

import settings
from host import PROGRAM, Host, descendants, eventually

IMAGE, ALICE, PAUSE = "localhost/busybox:latest", "localhost/alice:latest", "localhost/pause:1"
CRI_NAMESPACE = "k8s.io"
CLONE_NEWNET = 0x40000000
# ctr 2.x would warn of the host's control groups in what a test takes for a container's stderr.
QUIET = {"CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS": "1"}
PATH = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
CGROUPS = pathlib.Path("/sys/fs/cgroup")
# Prints a line when all is there, and ends with the test that holds the other end of its stdin.
HOLDER = """set -e
mount --make-rshared /
mount -t tmpfs private /run
for folder in etc var/lib opt; do
  mkdir -p /run/$folder/upper /run/$folder/work
  mount -t overlay -o lowerdir=/$folder,upperdir=/run/$folder/upper,workdir=/run/$folder/work \
    private /$folder
done
rm -rf /etc/cni /opt/cni && mkdir -p /etc/cni/net.d /opt/cni && cp "$1" /etc/cni/net.d/
ln -s /usr/lib/cni /opt/cni/bin  # where the ctr of containerd 2 looks
ip link set lo up
echo ready
exec cat
"""
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


class Containerd(Host):
    """Called, it is ctr: `engine("task", "ls")`. Restarted, it finds its containers again.

    `programs` is the folder of another containerd and ctr; `registry` see settings.py.
    """

    program = "ctr"

    def __init__(self, name, images, programs=None, registry=None):
        super().__init__()
        folders = [os.path.dirname(PROGRAM), *([programs] if programs else []), *PATH]
        self.path = os.pathsep.join(map(str, folders))
        self.version = version(self.path)
        self.major = int(self.version.split(".")[0])
        self.name, self.runtime = name, f"io.containerd.{name}.v2"
        # Of ctr's containers, and their cgroup's name; not every character may be in it.
        self.namespace = re.sub("[^a-z0-9]", "", self.folder.name)
        self.root, self.tasks = self.folder / "r", self.folder / "st"
        self.socket, self.log = self.folder / "c.sock", self.folder / "containerd.log"
        self.numbers = itertools.count()
        self.daemon = None
        cni = self.folder / "10-tests.conflist"
        cni.write_text(json.dumps(CNI))
        self.holder = subprocess.Popen(
            ["unshare", "--mount", "--net", "sh", "-c", HOLDER, "sh", str(cni)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.holder.stdout.readline() == b"ready\n", "no namespaces"
        self.settings = settings.write(
            self.folder, self.major, registry, root=self.root, state=self.tasks,
            socket=self.socket, pause=PAUSE, name=name, runtime=self.runtime)
        self.mounts = set(self.mount_points())
        try:
            self.up()
            for namespace, image in itertools.product((self.namespace, CRI_NAMESPACE), images):
                self("-n", namespace, "images", "import", image).ok()
        except BaseException:
            self.daemon.kill()
            self.holder.communicate(timeout=10)
            shutil.rmtree(self.folder, ignore_errors=True)
            raise

    # --- the daemon
    def inside(self, *words):
        """These words as a command in the namespaces."""
        return ["nsenter", "--target", str(self.holder.pid), "--mount", "--net", *map(str, words)]

    def which(self, program):
        return shutil.which(program, path=self.path)

    def up(self):
        # What a daemon has in its environment its shims have, too.
        environment = {"HOME": "/root", "TMPDIR": str(self.temp),
                       "BULKHEAD_CONFIG": str(self.config), "PATH": self.path}
        with open(self.log, "ab") as log:
            self.daemon = subprocess.Popen(
                self.inside("setpriv", "--pdeathsig", "KILL", self.which("containerd"), "--config",
                            self.settings),
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
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

    @contextlib.contextmanager
    def network(self):
        """This thread in the daemon's network: sockets made meanwhile belong there."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/thread-self/ns/net") as ours, \
                open(f"/proc/{self.holder.pid}/ns/net") as theirs:
            assert libc.setns(theirs.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            try:
                yield
            finally:
                assert libc.setns(ours.fileno(), CLONE_NEWNET) == 0

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
        return ["run", "--runtime", self.runtime, *options, *([image] if image else []), name,
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
        own = {self.holder.pid, self.daemon.pid if self.daemon else None}
        return [process for process in super().new_processes() if process.pid not in own]

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
        return pathlib.Path(f"/proc/{self.holder.pid}/root/run")

    def sockets(self):
        """The shims' sockets."""
        return set((self.run_folder / "containerd" / "s").glob("*"))

    def mount_points(self):
        lines = pathlib.Path(f"/proc/{self.holder.pid}/mountinfo").read_text().splitlines()
        return [line.split()[4] for line in lines]

    def cgroup_folders(self, name="."):
        """A control group of ours in each hierarchy, of either version."""
        return [top / self.namespace / name for top in
                (CGROUPS, *CGROUPS.iterdir()) if (top / self.namespace / name).is_dir()]

    def remove_cgroup(self, name="."):
        """As its owner, a client, does. What stays in it makes it stay, and be found."""
        def gone():
            for folder in self.cgroup_folders(name):
                with contextlib.suppress(OSError):
                    folder.rmdir()
            return not self.cgroup_folders(name)
        with contextlib.suppress(AssertionError):
            eventually(gone, 10)

    def left_over(self):
        found = super().left_over()
        found += [f"mount {point}" for point in set(self.mount_points()) - self.mounts]
        # Their common parent is not the runtime's to remove.
        found += [f"cgroup {path}" for top in self.cgroup_folders()
                  for path in top.rglob("*") if path.is_dir()]
        run = self.run_folder
        found += [f"socket {path}" for path in self.sockets()]
        for folder in (run / "netns", *run.glob("containerd/runc/*"),
                       *self.root.glob("io.containerd.runtime.v2.task/*"),
                       *self.tasks.glob("io.containerd.runtime.v2.task/*"),
                       self.tasks / "io.containerd.grpc.v1.cri" / "netns"):
            if folder.is_dir():
                found += [f"file {path}" for path in folder.iterdir()]
        links = pathlib.Path(f"/proc/{self.holder.pid}/net/dev").read_text().splitlines()[2:]
        found += [f"link {line.split(':')[0].strip()}" for line in links
                  if not re.match(r" *(lo|tests0):", line)]
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
        for process in self.new_processes():
            with contextlib.suppress(OSError):
                os.kill(process.pid, signal.SIGKILL)
        for point in sorted(set(self.mount_points()) - self.mounts, reverse=True):
            subprocess.run(self.inside("umount", "-l", point), check=False, timeout=30)
        for path in self.sockets():
            path.unlink()

    def close(self):
        try:
            self.sweep()
            self.down()
            super().close()
        finally:
            self.holder.communicate(timeout=10)
            self.remove_cgroup()


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
