#!/usr/bin/python3
"""Creates and deletes containers for long, and tells what grows.

    soak.py [CYCLES] [bulkhead|runc]     (make soak CYCLES=500)

One container stays for the whole time. Fails when anything is left, or when containerd or that
container's helpers end with notably more descriptors or memory than after a tenth of the cycles.
"""

import os
import pathlib
import sys
import tempfile
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

import host  # noqa: E402
import images  # noqa: E402
from containerd import IMAGE, Containerd  # noqa: E402

SLEEP = ("sleep", "100000")
MIB = 1 << 20
GROWTH = {"fds": 8, "threads": 8, "private": 16 * MIB}  # more is a leak


def cycle(engine, name):
    """By create, start, exec, kill and delete one by one."""
    engine("container", "create", *engine.chosen, IMAGE, name, *SLEEP).ok()
    engine("task", "start", "-d", name).ok()
    engine.exec(name, "true").ok()
    engine("task", "kill", "-s", "SIGKILL", name).ok()
    host.eventually(lambda: engine.status(name) == "STOPPED", what="its end")
    assert engine.reap(name) == 137
    engine("container", "rm", name).ok()


def size_of(pid):
    """What a process holds: descriptors, threads, memory of its own."""
    folder = pathlib.Path(f"/proc/{pid}")
    private = sum(int(line.split()[1]) << 10
                  for line in (folder / "smaps_rollup").read_text().splitlines()
                  if line.startswith("Private_"))
    return {"fds": len(os.listdir(folder / "fd")), "threads": len(os.listdir(folder / "task")),
            "private": private}


def watched(engine):
    """The processes that stay: containerd, and those of the container that does."""
    found = {"containerd": engine.daemon.pid}
    for process in engine.new_processes():
        program = os.path.basename(process.command.split(" ")[0])
        found[f"{program[:20]} {process.pid}"] = process.pid
    return found


def is_leak(name, key, growth):
    """A VM's memory is the guest's, which fills it with files and is bounded by its size."""
    return growth > GROWTH[key] and not (key == "private" and name.startswith("qemu"))


def show(title, sizes):
    print(f"{title}:")
    for name, size in sizes.items():
        print(f"  {name:28} {size['fds']:5} fds {size['threads']:4} threads"
              f" {size['private'] / MIB:8.1f} MiB private")


def soak(engine, cycles):
    tenth = max(cycles // 10, 1)
    with engine.detached("stays", *SLEEP):
        left = set(engine.left_over())
        names, times, first = {}, [], {}
        for number in range(1, cycles + 1):
            start = time.monotonic()
            cycle(engine, "again")
            engine.exec("stays", "true").ok()
            times.append(time.monotonic() - start)
            if number == tenth:
                host.eventually(lambda: set(engine.left_over()) == left, 20, "a clean host")
                names = watched(engine)
                first = {name: size_of(pid) for name, pid in names.items()}
                show(f"after {number} cycles", first)
            if number % tenth == 0:
                print(f"{number} cycles: {sum(times[-tenth:]) / tenth:.2f} s each", flush=True)
        host.eventually(lambda: set(engine.left_over()) == left, 20, "a clean host")
        last = {name: size_of(pid) for name, pid in names.items()}
    show(f"after {cycles} cycles", last)
    return [f"{name}: {key} grew from {first[name][key]} to {last[name][key]}"
            for name in names for key in GROWTH
            if is_leak(name, key, last[name][key] - first[name][key])]


def main():
    cycles = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    host.adopt_orphans()
    with tempfile.TemporaryDirectory(prefix="bh-soak-") as folder:
        archive = images.docker_save(pathlib.Path(folder) / "busybox.tar",
                                     [images.busybox_layer()], tag=IMAGE)
        engine = Containerd(sys.argv[2] if len(sys.argv) > 2 else "bulkhead", [archive])
        try:
            grown = soak(engine, cycles)
        finally:
            engine.close()
    for line in grown:
        print(line)
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
