"""A Podman and a buildah of the tests' own, with one storage."""

import contextlib
import os
import re

from engine import IMAGE, RUNTIMES, Engine

# A folder with another podman and buildah.
PROGRAMS = os.environ.get("PODMAN_PROGRAMS")
# Of the monitors, and of pods in hierarchies without controllers: Podman never removes those.
OWN_CGROUP = r"/(conmon|(systemd|unified)/[^/]+/[0-9a-f]{64})$"
CONTAINERS = """[containers]
log_driver = "k8s-file"
# The built-in values need more than every machine's administrator may.
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
static_dir = "{data}/libpod"
volume_path = "{data}/volumes"
tmp_dir = "{run}/libpod"
[engine.runtimes]
{runtimes}
[network]
network_backend = "netavark"
network_config_dir = "{data}/networks"
default_subnet = "10.207.0.0/24"
"""
STORAGE = """[storage]
driver = "overlay"
graphroot = "{data}"
runroot = "{run}"
"""


class Podman(Engine):
    name = "podman-5" if PROGRAMS else "podman"

    def __init__(self, archives):
        super().__init__()
        if PROGRAMS:
            self.environment["PATH"] = f"{PROGRAMS}:{self.environment['PATH']}"
            self.environment["PODMAN_IGNORE_CGROUPSV1_WARNING"] = "1"
        self.storage, self.run_root = self.folder / "p", self.folder / "r"
        runtimes = "\n".join(f'{name} = ["{path}"]' for name, path in RUNTIMES.items())
        for variable, template in (("CONTAINERS_CONF", CONTAINERS),
                                   ("CONTAINERS_STORAGE_CONF", STORAGE)):
            path = self.folder / variable.lower()
            path.write_text(template.format(data=self.storage, run=self.run_root,
                                            runtimes=runtimes))
            self.environment[variable] = str(path)
        try:
            for archive in archives:
                self("load", "-q", "-i", archive).ok()
            self.run(IMAGE, "true").ok()  # makes what all containers have in common
            self.mounts = set(self.mount_points())
            self.images = self.known_images()
        except BaseException:
            self.abandon()
            raise

    @contextlib.contextmanager
    def remapped(self):
        """By options of each container."""
        yield

    def command(self, *arguments):
        parent = ("--cgroup-parent", "/" + self.label)
        if arguments[0] == "buildah":
            return arguments
        if arguments[0] in ("run", "create"):
            arguments = (arguments[0], *parent, *arguments[1:])
        elif arguments[:2] == ("pod", "create"):
            arguments = (*arguments[:2], *parent, *arguments[2:])
        return ("podman", "--runtime", self.runtime, *arguments)

    # --- what is there
    def known_images(self):
        # The image of a pod's first container is made when it is needed, and stays.
        return set(self.listed("images", "-a", "--format", "{{.ID}}", "--filter",
                               "reference!=localhost/podman-pause"))

    def folders(self):
        return [self.storage / "overlay-containers", self.run_root / "overlay-containers",
                self.path("/run/netns"), self.path("/run/runc"), *self.state_folders(self.state)]

    def left_over(self):
        return [found for found in super().left_over() if not re.search(OWN_CGROUP, found)]

    def remove_cgroup(self, name="."):
        for folder in {path.name for top in self.cgroup_folders() for path in top.iterdir()
                       if re.search(OWN_CGROUP, str(path))}:
            super().remove_cgroup(folder)
        super().remove_cgroup(name)

    def objects(self):
        found = super().objects()
        for kind in ("pod", "volume"):
            found += [f"{kind} {name}" for name in self.listed(kind, "ls", "-q")]
        found += [f"network {name}" for name in self.listed("network", "ls", "-q")
                  if name != "podman"]
        return found + [f"image {name}" for name in self.known_images() - self.images]

    def sweep(self):
        self("pod", "rm", "-af")
        super().sweep()
        for kind in ("volume", "network"):
            self(kind, "prune", "-f")

    def close(self):
        self.sweep()
        super().close()


class Buildah(Podman):
    """The two have one storage: Podman tells what is left."""

    name = "buildah"  # of either

    def buildah(self, verb, *arguments, **options):
        if verb in ("run", "bud"):
            arguments = ("--isolation", "oci", "--runtime", RUNTIMES[self.runtime], *arguments)
        return self("buildah", verb, *arguments, **options)
