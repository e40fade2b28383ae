"""A Host in a mount and a network namespace of its own.

/run, /etc, /var/lib, /opt and /dev/shm are private there: an engine in it neither touches nor sees what
the machine's engines have, and its network is nobody else's.
"""

import contextlib
import ctypes
import os
import pathlib
import re
import shutil
import signal
import subprocess

from host import PROGRAM, Host, eventually

CLONE_NEWNET = 0x40000000
CGROUPS = pathlib.Path("/sys/fs/cgroup")
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
# Prints a line when all is there, and ends with the test that holds the other end of its stdin.
HOLDER = """set -e
mount --make-rshared /
mount -t tmpfs private /run
mount -t tmpfs private /dev/shm
for folder in etc var/lib opt; do
  mkdir -p /run/$folder/upper /run/$folder/work
  mount -t overlay -o lowerdir=/$folder,upperdir=/run/$folder/upper,workdir=/run/$folder/work \
    private /$folder
done
ip link set lo up
echo ready
exec cat
"""


class Private(Host):
    def __init__(self):
        super().__init__()
        # A name for what the kernel has only one of; not every character may be in it.
        self.label = re.sub("[^a-z0-9]", "", self.folder.name)
        self.holder = subprocess.Popen(["unshare", "--mount", "--net", "sh", "-c", HOLDER],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       start_new_session=True)  # Ctrl-C is for the tests
        assert self.holder.stdout.readline() == b"ready\n", "no namespaces"
        # What a daemon has in its environment its runtimes have, too.
        self.environment = {"HOME": "/root", "TMPDIR": str(self.temp),
                            "BULKHEAD_CONFIG": str(self.config),
                            "PATH": os.path.dirname(PROGRAM) + ":" + PATH}
        self.mounts = set(self.mount_points())

    # --- the namespaces
    def inside(self, *words):
        """These words as a command in the namespaces."""
        return ["nsenter", "--target", str(self.holder.pid), "--mount", "--net", *map(str, words)]

    def path(self, absolute):
        """What an absolute path is in there."""
        return pathlib.Path(f"/proc/{self.holder.pid}/root") / str(absolute).lstrip("/")

    @contextlib.contextmanager
    def network(self):
        """This thread in the private network: sockets made meanwhile belong there."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/thread-self/ns/net") as ours, \
                open(f"/proc/{self.holder.pid}/ns/net") as theirs:
            assert libc.setns(theirs.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            try:
                yield
            finally:
                assert libc.setns(ours.fileno(), CLONE_NEWNET) == 0

    # --- what is there
    def new_processes(self):
        return [process for process in super().new_processes()
                if process.pid != self.holder.pid]

    def mount_points(self):
        lines = pathlib.Path(f"/proc/{self.holder.pid}/mountinfo").read_text().splitlines()
        return [line.split()[4] for line in lines]

    def links(self):
        lines = pathlib.Path(f"/proc/{self.holder.pid}/net/dev").read_text().splitlines()[2:]
        return {line.split(":")[0].strip() for line in lines} - {"lo"}

    def cgroup_folders(self, name="."):
        """A control group of ours in each hierarchy, of either version."""
        return [top / self.label / name for top in
                (CGROUPS, *CGROUPS.iterdir()) if (top / self.label / name).is_dir()]

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
        return found + [f"cgroup {path}" for top in self.cgroup_folders()
                        for path in top.rglob("*") if path.is_dir()]

    # --- the end
    def sweep(self):
        """After a test that failed to: ends and removes what there is."""
        for process in self.new_processes():
            with contextlib.suppress(OSError):
                os.kill(process.pid, signal.SIGKILL)
        for point in sorted(set(self.mount_points()) - self.mounts, reverse=True):
            subprocess.run(self.inside("umount", "-l", point), check=False, timeout=30)

    def abandon(self):
        """Ends the namespaces and all in them, whatever it is."""
        for process in self.new_processes():
            with contextlib.suppress(OSError):
                os.kill(process.pid, signal.SIGKILL)
        self.holder.communicate(timeout=10)
        self.remove_cgroup()
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self):
        try:
            super().close()
        finally:
            self.holder.communicate(timeout=10)
            self.remove_cgroup()
