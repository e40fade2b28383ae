"""The `bulkhead` command with folders of its own, and what it leaves on the host."""

import contextlib
import ctypes
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("BULKHEAD", str(ROOT / "build/dist/bin/bulkhead"))
# A start takes one to two seconds without KVM on an idle machine; machines are not always idle.
PATIENCE = float(os.environ.get("BULKHEAD_TEST_TIMEOUT", "60"))
# TCG works everywhere and writes no warning about a missing KVM to stderr.
ACCEL = os.environ.get("BULKHEAD_TEST_ACCEL", "tcg")
PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans():
    """Makes this process the parent of every orphan below it, so that none can hide."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")


class Process:
    """One line of /proc."""

    def __init__(self, pid):
        self.pid = pid
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
        fields = stat[stat.rindex(")") + 2:].split()
        self.name = stat[stat.index("(") + 1:stat.rindex(")")]
        self.state, self.parent, self.started = fields[0], int(fields[1]), fields[19]
        raw = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        self.command = raw.replace(b"\0", b" ").decode(errors="replace").strip()

    @property
    def key(self):
        return self.pid, self.started

    def __repr__(self):
        return f"{self.pid} ({self.name}, parent {self.parent}): {self.command[:200]}"


def processes():
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError):
                process = Process(int(name))
                found[process.pid] = process
    return found


def descendants(reap=True):
    """Every live process below this one; ended orphans are reaped on the way, unless a child's
    exit code is still to be asked for.
    """
    everything = processes()
    below = {os.getpid()}
    result = []
    while True:
        more = [process for process in everything.values()
                if process.parent in below and process.pid not in below]
        if not more:
            return result
        for process in more:
            below.add(process.pid)
            if process.state != "Z":
                result.append(process)
            elif reap and process.parent == os.getpid():
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(process.pid, os.WNOHANG)


def mounts_below(folder):
    lines = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if line.split()[4].startswith(str(folder))]


def cgroups():
    """Control groups that bear our name, but not those of unit tests that run beside us."""
    found = set()
    for folder, names, _ in os.walk("/sys/fs/cgroup"):
        found.update(os.path.join(folder, name) for name in names
                     if "bulkhead" in name and not name.startswith("bulkhead-test-"))
    return found


def eventually(condition, seconds=PATIENCE, what="it"):
    """Waits for the condition's first true value and returns it."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"{what} did not happen within {seconds} s"
        time.sleep(0.05)


class Outcome:
    """How a command ended."""

    def __init__(self, arguments, code, out, err):
        self.arguments, self.code, self.out, self.err = arguments, code, out, err

    @property
    def text(self):
        return self.out.decode(errors="replace")

    @property
    def error(self):
        return self.err.decode(errors="replace")

    @property
    def lines(self):
        return self.text.splitlines()

    def ok(self, code=0):
        assert self.code == code, str(self)
        return self

    def fails(self, *words, code=125):
        """Our own failure: this exit code and one clear line that holds these words."""
        assert self.code == code, str(self)
        lines = self.error.strip().splitlines()
        assert len(lines) == 1, f"not one line: {self}"
        for word in words:
            assert word.lower() in lines[0].lower(), f"no '{word}': {self}"
        return self

    def __str__(self):
        return (f"{' '.join(map(str, self.arguments))}\nexit code {self.code}\n"
                f"--- stdout ({len(self.out)} bytes)\n{self.text[-2000:]}\n"
                f"--- stderr\n{self.error[-4000:]}")


class Host:
    """The command with a configuration, a state folder and a data folder of its own.

    The folders' names are short: the path of a Unix socket holds 107 characters.
    """

    program = "bulkhead"
    executable = None  # PROGRAM

    def __init__(self, **settings):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="bh-", dir="/tmp"))
        self.state, self.data = self.folder / "s", self.folder / "d"
        self.config = self.folder / "config.toml"
        self.temp = self.folder / "t"
        self.temp.mkdir()
        self.environment = {**os.environ, "BULKHEAD_CONFIG": str(self.config),
                            "TMPDIR": str(self.temp)}
        self.configure(**settings)
        self.before = {process.key for process in descendants()}
        self.cgroups_before = cgroups()

    def configure(self, sharing=None, rootfs=None, annotations=None, **hypervisor):
        sections = {"hypervisor": {"accel": ACCEL, **hypervisor}, "sharing": sharing or {},
                    "rootfs": rootfs or {}, "annotations": annotations or {},
                    "paths": {"state": str(self.state), "data": str(self.data)}}
        lines = []
        for section, keys in sections.items():
            lines.append(f"[{section}]")
            lines += [f'{key} = "{value}"' if isinstance(value, str) else f'{key} = {value}'
                      for key, value in keys.items()]
        self.config.write_text("\n".join(lines) + "\n")

    # --- commands
    def start(self, *arguments, **options):
        """Starts the command; the caller waits for it."""
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        options.setdefault("env", self.environment)
        return subprocess.Popen([self.executable or PROGRAM, *map(str, arguments)], **options)

    def __call__(self, *arguments, input=None, timeout=PATIENCE, **options):
        """Runs the command to its end."""
        if input is not None:
            options["stdin"] = subprocess.PIPE
        process = self.start(*arguments, **options)
        try:
            out, err = process.communicate(input, timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate(timeout=10)
            told = Outcome([self.program, *arguments], "none", out or b"", err or b"")
            raise AssertionError(f"not done in {timeout} s: {told}") from None
        return Outcome([self.program, *arguments], process.returncode, out or b"", err or b"")

    def run(self, *arguments, **options):
        return self("run", "--rm", *arguments, **options)

    def shell(self, image, script, *options, **rest):
        """Runs a shell script in a new container."""
        return self.run(*options, image, "sh", "-c", script, **rest)

    # --- what is there
    def new_processes(self):
        return [process for process in descendants() if process.key not in self.before]

    def qemu(self):
        """The one QEMU that runs, or None."""
        found = [process for process in self.new_processes()
                 if "qemu-system" in process.command.split(" ")[0]]
        return found[0] if found else None

    def left_over(self):
        """What should not be there any more, in words."""
        found = [f"process {process!r}" for process in self.new_processes()]
        found += [f"mount {line}" for line in mounts_below(self.folder)]
        found += [f"cgroup {path}" for path in cgroups() - self.cgroups_before]
        for folder in (self.state / "pods", self.state / "containers", self.state / "engine-pods",
                       self.data / "pods", self.temp, self.data / "tmp",
                       self.data / "layers" / "tmp"):
            if folder.is_dir():
                found += [f"file {path}" for path in folder.iterdir()]
        found += [f"socket {path}" for path in self.state.rglob("*") if path.is_socket()]
        found += [f"file {path}" for path in self.data.glob("upper-*")]
        return found

    def nothing_left(self, seconds=10):
        end = time.monotonic() + seconds
        while True:
            found = self.left_over()
            if not found:
                return
            if time.monotonic() > end:
                raise AssertionError("left behind:\n  " + "\n  ".join(found))
            time.sleep(0.1)

    def close(self):
        """Ends and removes everything; then says whether anything had to be."""
        try:
            self.nothing_left()
        finally:
            for process in self.new_processes():
                with contextlib.suppress(OSError):
                    os.kill(process.pid, signal.SIGKILL)
            for line in reversed(mounts_below(self.folder)):
                subprocess.run(["umount", "-l", line.split()[4]], check=False, timeout=30)
            shutil.rmtree(self.folder, ignore_errors=True)
