"""Writable layers that are not the snapshot's: on a disk of their own, or in the guest's memory."""

import os
import shutil
import signal
import subprocess

import pytest
from host import PATIENCE, eventually
from snapshotter import Snapshotter

UPPER = "io.bulkhead.rootfs.upper"
SLEEP = ("sleep", "100000")
CRI = "io.kubernetes.cri"

pytestmark = pytest.mark.vm_only
LAYERED = pytest.mark.parametrize("upper", ["block", "memory"])


def annotated(**keys):
    """Options of ctr: annotated(upper="block", upper_size="1g")."""
    return [word for key, value in keys.items()
            for word in ("--annotation", f"io.bulkhead.rootfs.{key.replace('_', '.')}={value}")]


def in_snapshots(engine, name):
    """Where the file is in the snapshotter's folders."""
    folder = engine.root / "io.containerd.snapshotter.v1.overlayfs" / "snapshots"
    return [path for path in folder.glob("*/fs/" + name) if path.exists()]


def disks(engine):
    """Disks of writable layers that a process has open."""
    found = []
    for process in engine.new_processes():
        try:
            links = [os.readlink(entry) for entry in os.scandir(f"/proc/{process.pid}/fd")]
        except OSError:
            continue
        found += [link for link in links
                  if link.startswith(str(engine.data)) and link.endswith("(deleted)")]
    return found


@LAYERED
def test_run(engine, name, upper):
    told = engine.run(name, "sh", "-c", "rm /bin/vi; echo x > /kept; ls /kept /bin/vi 2>&1; "
                      "df -m / | awk 'END { print ($2 <= 48) }'; exit 7",
                      options=annotated(upper=upper, upper_size="48m")).ok(7)
    assert told.lines == ["ls: /bin/vi: No such file or directory", "/kept", "1"]


@LAYERED
def test_the_snapshot_does_not_get_it(engine, name, upper):
    with engine.detached(name, "sh", "-c", "echo x > /written; exec sleep 100000",
                         options=annotated(upper=upper)):
        eventually(lambda: engine.exec(name, "cat", "/written").text == "x\n", what="the file")
        assert in_snapshots(engine, "written") == []
        assert len(disks(engine)) == (1 if upper == "block" else 0)
    assert disks(engine) == []
    with engine.detached(name, "sh", "-c", "echo x > /written; exec sleep 100000"):
        eventually(lambda: in_snapshots(engine, "written"), what="the file on the host")


def test_two_in_one_pod(engine, name):
    """Each has its own, which goes with it, while the VM runs on."""
    def pod(kind):
        return ["--annotation", f"{CRI}.container-type={kind}",
                "--annotation", f"{CRI}.sandbox-id={name}"]
    with engine.detached(name, *SLEEP, options=pod("sandbox")):
        for upper in ("block", "memory"):
            one = f"{name}-{upper}"
            engine(*engine.words(one, "sh", "-c", f"echo {upper} > /mine; exec sleep 100000",
                                 options=["-d", *pod("container"), *annotated(upper=upper)])).ok()
        for upper in ("block", "memory"):
            one = f"{name}-{upper}"
            eventually(lambda one=one: engine.exec(one, "cat", "/mine").text, what="the file")
            assert engine.exec(one, "cat", "/mine").ok().text == upper + "\n"
            engine("task", "kill", "-s", "SIGKILL", one).ok()
            eventually(lambda one=one: engine.status(one) == "STOPPED", what="its end")
            assert engine.reap(one) == 137
            engine("container", "rm", one).ok()
            assert disks(engine) == []


def test_over_a_drive_that_is_read_only(engine, name, tmp_path):
    """An erofs of the snapshotter's: with a layer over it a container can write."""
    if not shutil.which("mkfs.erofs"):
        pytest.skip("mkfs.erofs is missing (package erofs-utils)")
    with Snapshotter(engine, "packed", tmp_path) as snapshotter:
        words = ("snapshots", "--snapshotter", "packed")
        eventually(lambda: engine(*words, "prepare", "probe").code == 0, what="the snapshotter")
        engine(*words, "rm", "probe").ok()
        told = engine.run(name, "sh", "-c", "echo x > /bin/new; cat /bin/new; grep -c erofs "
                          "/proc/mounts", options=["--snapshotter", snapshotter.kind,
                                                   *annotated(upper="block")])
        assert told.text.splitlines()[:1] == ["x"], str(told)


@pytest.mark.parametrize("keys, words", [
    ({"upper": "disk"}, (UPPER, "disk")),
    ({"upper": "block", "upper_size": "1m"}, (UPPER + ".size", "1m", "16m")),
    ({"upper": "memory", "upper_size": "999g"}, ("rootfs.upper", "guest's memory"))])
def test_bad_values(engine, name, keys, words):
    told = engine.run(name, "true", options=annotated(**keys))
    assert told.code != 0
    for word in words:
        assert word in told.error, str(told)


@pytest.mark.parametrize("victim", ["containerd-shim", "qemu-system"])
def test_kill_9(engine, name, victim):
    before = engine.named(victim)
    process = engine.start(*engine.words(
        name, "sh", "-c", "dd if=/dev/zero of=/big bs=1M count=8; sync; echo ready; sleep 100000",
        options=["--rm", *annotated(upper="block")]))
    assert process.stdout.readline() == b"ready\n"
    assert len(disks(engine)) == 1
    os.kill(engine.born(victim, before), signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    assert process.returncode not in (0, None)
    eventually(lambda: not disks(engine), what="the end of its disk")
    assert list(engine.data.glob("*")) == []


# ---- a volume of memory, as a kubelet makes an emptyDir of it
@pytest.mark.parametrize("upper", ["shared", "block"])
def test_the_size_of_a_volume_in_memory_holds(engine, name, upper, tmp_path):
    subprocess.run(engine.inside("mount", "-t", "tmpfs", "-o", "size=8m", "empty-dir", tmp_path),
                   check=True, timeout=PATIENCE)
    try:
        told = engine.run(
            name, "sh", "-c", "dd if=/dev/zero of=/m/big bs=1M count=20 2>&1 | grep -c 'No space'; "
            "rm /m/big; echo x > /m/small && cat /m/small", options=[
                "--mount", f"type=bind,src={tmp_path},dst=/m,options=rbind:rw",
                *annotated(upper=upper)]).ok()
        assert told.lines == ["1", "x"], str(told)
    finally:
        subprocess.run(engine.inside("umount", tmp_path), check=True, timeout=PATIENCE)
