"""What Docker, Podman and buildah have in common: a client with namespaces of its own.

Each can run its containers with several OCI runtimes; `runtime` says which is next.
"""

import contextlib
import itertools
import json
import pathlib
import subprocess

from host import PROGRAM, eventually
from private import Private

IMAGE, ALICE = "localhost/busybox:latest", "localhost/alice:latest"
RUNTIMES = {"runc": "/usr/sbin/runc", "bulkhead": PROGRAM}
STATE = ("containers", "engine-pods", "pods")  # folders of bulkhead below its root
# Says that it is ready, and why it ends.
WAITS = "trap 'echo usr' USR1; trap 'echo term; exit 3' TERM; echo ready; " \
        "while :; do sleep 0.1; done"


class Engine(Private):
    """Called, it is the client: `engine("ps", "-a")`. `kind` is whose client it is."""

    def __init__(self):
        super().__init__()
        self.kind = self.name.partition("-")[0]
        self.runtime = "runc"
        self.numbers = itertools.count()
        self.history = []
        self.known = None  # what was there before a test
        self.configure_bulkhead()

    def configure_bulkhead(self):
        """Engines do not hand every runtime call the environment: a file in its place does."""
        installed = pathlib.Path(PROGRAM).parents[1] / "etc/bulkhead/config.toml"
        if installed.exists():
            subprocess.run(self.inside("mount", "--bind", self.config, installed), check=True,
                           timeout=30)
        else:
            self.path("/etc/bulkhead").mkdir(exist_ok=True)
            self.path("/etc/bulkhead/config.toml").write_text(self.config.read_text())
        self.mounts = set(self.mount_points())

    # --- the client
    def start(self, *arguments, **options):
        """Starts the client; the caller waits for it."""
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        options.setdefault("env", self.environment)
        return subprocess.Popen(self.inside(*self.command(*arguments)), **options)

    def command(self, *arguments):
        """The client with these arguments; a new container is made by the runtime."""
        raise NotImplementedError

    def __call__(self, *arguments, **options):
        told = super().__call__(*arguments, **options)
        self.history.append(str(told))
        return told

    def run(self, *arguments, **options):
        return self("run", "--rm", *arguments, **options)

    def shell(self, script, *arguments, **options):
        """Runs a shell script in a new container."""
        return self.run(*arguments, IMAGE, "sh", "-c", script, **options)

    @contextlib.contextmanager
    def detached(self, name, *arguments):
        """A container in the background, removed at the end if the test did not."""
        try:
            self("run", "-d", "--name", name, *arguments).ok()
            yield name
        finally:
            self.remove(name)

    @contextlib.contextmanager
    def script(self, name, script, *arguments):
        """The same that runs a shell script, whose first line of output is waited for."""
        with self.detached(name, *arguments, IMAGE, "sh", "-c", script):
            eventually(lambda: self("logs", name).ok().out, what="its first words")
            yield name

    @contextlib.contextmanager
    def made(self, kind, name, *arguments):
        """A network or a volume."""
        self(kind, "create", *arguments, name).ok()
        try:
            yield name
        finally:
            self(kind, "rm", name)

    def remove(self, name):
        self("rm", "-f", "-v", name)

    def exec(self, name, *command, options=(), **rest):
        return self("exec", *options, name, *command, **rest)

    def inspect(self, name):
        return json.loads(self("inspect", name).ok().out)[0]

    def state_of(self, name):
        return self.inspect(name)["State"]

    def ended(self, name):
        """Waits for its end; its exit code."""
        return int(self("wait", name).ok().text)

    # --- what is there
    def listed(self, *arguments):
        return self(*arguments).ok().text.split()

    def state_folders(self, root):
        """Where a runtime with this root has something for each container."""
        return [root, *(root / name for name in STATE)]

    def folders(self):
        """Where there is a file for each container, and nothing else."""
        return []

    def objects(self):
        """What the engine itself knows of containers, in words."""
        return [f"container {name}" for name in self.listed("ps", "-aq")]

    def left_over(self):
        found = super().left_over() + self.objects()
        found += [f"link {name}" for name in self.links() - self.own_links()]
        for folder in self.folders():
            if folder.is_dir():
                found += [f"file {path}" for path in folder.iterdir()
                          if path.suffix not in (".json", ".lock") and path.name not in STATE]
        return found

    def own_links(self):
        return set()

    def sweep(self):
        for name in self.listed("ps", "-aq"):
            self.remove(name)
        super().sweep()
