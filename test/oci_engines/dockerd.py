"""A dockerd of the tests' own."""

import contextlib
import json
import os
import signal
import subprocess

from engine import RUNTIMES, Engine
from host import eventually

CLIENT = os.environ.get("DOCKER", "/usr/bin/docker")
# A folder with another dockerd and the containerd for it.
DAEMONS = os.environ.get("DOCKER_DAEMONS")


class Docker(Engine):
    name = "docker"

    def __init__(self, archives):
        super().__init__()
        self.daemon = None
        self.log, self.settings = self.folder / "dockerd.log", self.folder / "daemon.json"
        self.exec_root, self.data_root = self.folder / "x", self.folder / "docker"
        self.environment["DOCKER_HOST"] = f"unix://{self.folder}/docker.sock"
        self.environment["DOCKER_BUILDKIT"] = "0"
        if DAEMONS:
            self.environment["PATH"] = f"{DAEMONS}:{self.environment['PATH']}"
            self.environment["DOCKER_MIN_API_VERSION"] = "1.24"  # of Debian's client
        self.archives, self.further = archives, {}
        self.set_default("runc")
        try:
            self.up()
            self.load()
            self.mounts = set(self.mount_points())
            self.images = set(self.listed("image", "ls", "-aq"))
        except BaseException:
            if self.daemon:
                self.daemon.kill()
            self.abandon()
            raise

    def set_default(self, runtime):
        """For what has no option for it, as `docker build`."""
        self.settings.write_text(json.dumps({
            "hosts": [self.environment["DOCKER_HOST"]], "pidfile": str(self.folder / "docker.pid"),
            "data-root": str(self.data_root), "exec-root": str(self.exec_root),
            "storage-driver": "overlay2", "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "cgroup-parent": "/" + self.label, "live-restore": True,
            "bip": "10.205.0.1/24", "default-address-pools": [{"base": "10.206.0.0/16",
                                                               "size": 24}],
            "runtimes": {name: {"path": path} for name, path in RUNTIMES.items()
                         if name != "runc"},
            "default-runtime": runtime, **self.further}))

    def load(self):
        for archive in self.archives:
            self("load", "-q", "-i", archive).ok()

    @contextlib.contextmanager
    def remapped(self):
        """A daemon whose containers are in user namespaces; it has images of its own."""
        for kind in ("subuid", "subgid"):
            self.path(f"/etc/{kind}").write_text("daemon:100000:65536\n")
        self.folder.chmod(0o711)
        images = self.images
        try:
            self.restart({"userns-remap": "daemon"})
            self.load()
            self.images = set(self.listed("image", "ls", "-aq"))
            yield
        finally:
            self.images = images
            self.restart({})

    def restart(self, further):
        self.further = further
        self.set_default("runc")
        self.down()
        self.up()

    @contextlib.contextmanager
    def default_runtime(self):
        """The runtime is the daemon's own choice for a while."""
        try:
            self.reload(self.runtime_name())
            yield
        finally:
            self.reload("runc")

    def reload(self, runtime):
        self.set_default(runtime)
        self.daemon.send_signal(signal.SIGHUP)
        eventually(lambda: self("info", "-f", "{{.DefaultRuntime}}").ok().text.strip() == runtime,
                   what="the daemon's new default")

    # --- the daemon
    def up(self):
        # A dead daemon's number may still be a zombie's, or somebody else's.
        for stale in (self.folder / "docker.pid", self.exec_root / "containerd/containerd.pid"):
            stale.unlink(missing_ok=True)
        with open(self.log, "ab") as log:
            self.daemon = subprocess.Popen(
                self.inside("setpriv", "--pdeathsig", "KILL", "dockerd", "--config-file",
                            self.settings),
                env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True)
        eventually(lambda: self.daemon.poll() is not None or self("version").code == 0,
                   what="dockerd's start")
        assert self.daemon.poll() is None, self.log.read_text()[-2000:]

    def down(self, number=signal.SIGTERM):
        self.daemon.send_signal(number)
        self.daemon.wait(60)

    # --- the client
    def runtime_name(self):
        return self.runtime

    def command(self, *arguments):
        if arguments[0] in ("run", "create"):
            arguments = (arguments[0], "--runtime", self.runtime_name(), *arguments[1:])
        return (CLIENT, *arguments)

    # --- what is there
    def new_processes(self):
        daemon = self.daemon.pid if self.daemon else None
        return [process for process in super().new_processes() if process.pid != daemon and
                not (process.parent == daemon and process.name == "containerd")]

    def own_links(self):
        return {"docker0"}

    def folders(self):
        return [*self.state_folders(self.exec_root / "runtime-runc/moby"),
                self.data_root / "containers",
                self.exec_root / "containerd/daemon/io.containerd.runtime.v2.task/moby",
                self.path("/run/containerd/s")]

    def left_over(self):
        shared = f"mount {self.exec_root}/netns/default"  # by all containers without a network
        return [found for found in super().left_over() if found != shared]

    def objects(self):
        if self.daemon.poll() is not None:
            return []
        found = super().objects()
        found += [f"volume {name}" for name in self.listed("volume", "ls", "-q")]
        found += [f"network {name}" for name in
                  self.listed("network", "ls", "-q", "--filter", "type=custom")]
        return found + [f"image {name}" for name in
                        set(self.listed("image", "ls", "-aq")) - self.images]

    def sweep(self):
        if self.daemon.poll() is not None:
            self.up()
        super().sweep()
        self("system", "prune", "--force", "--volumes")

    def close(self):
        self.sweep()
        self.down()
        super().close()


class DockerShim(Docker):
    """A Docker that takes shims by their names: 23 and later."""

    name = "docker-shim"

    def runtime_name(self):
        return "io.containerd.bulkhead.v2" if self.runtime == "bulkhead" else self.runtime
