"""The writable layer on a disk of its own or in the guest's memory (docs/storage.md)."""

import os
import pathlib
import shutil
import signal
import subprocess

import images
import oci
import pytest
from host import PATIENCE, eventually, mounts_below

HERE = pathlib.Path(__file__).resolve().parent
UPPER = "io.bulkhead.rootfs.upper"
VIRTIOFSD = any(os.path.exists(path) for path in (
    "/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/lib/virtiofsd"))
TRANSPORTS = ["9p", pytest.param("virtiofs", marks=pytest.mark.skipif(
    not VIRTIOFSD, reason="virtiofsd is missing"))]
PRIVILEGED = [*oci.CAPABILITIES, "CAP_SYS_ADMIN", "CAP_MKNOD", "CAP_FOWNER", "CAP_FSETID"]
LAYERED = pytest.mark.parametrize("upper", ["block", "memory"])
SLEEP = "echo ready; exec sleep 100000"
# An overlay in the container, as Docker in it would mount one: $1 is where it may write.
INNER = """
    set -e
    mkdir -p $1/low/dir $1/up $1/work /inner; echo old > $1/low/dir/old; echo two > $1/low/two
    mount -t overlay overlay -o lowerdir=$1/low,upperdir=$1/up,workdir=$1/work /inner
    echo new > /inner/dir/new; rm /inner/two; rm -r /inner/dir; mkdir /inner/dir; ls -R /inner
    stat -c '%F %t,%T' $1/up/two; umount /inner; cat $1/low/two"""
INNER_TELLS = ["/inner:", "dir", "", "/inner/dir:", "character special file 0,0", "two"]


@pytest.fixture
def engine(host, rootfs, tmp_path):
    """Its rootfs is a copy, for a container may write to it."""
    made = oci.Engine(host, tmp_path / "rootfs")
    subprocess.run(["cp", "-a", str(rootfs), str(made.rootfs)], check=True, timeout=PATIENCE)
    yield made
    made.close()


@pytest.fixture(scope="session")
def probe(tmp_path_factory):
    """A folder with storage_probe.c, compiled."""
    if not shutil.which("gcc"):
        pytest.skip("gcc is missing")
    folder = tmp_path_factory.mktemp("probe")
    subprocess.run(["gcc", "-O1", "-static", "-o", str(folder / "probe"),
                    str(HERE / "storage_probe.c")], check=True, timeout=PATIENCE)
    return folder


def spec(script, upper=None, size=None, folders=None, **changes):
    annotations = {UPPER: upper, UPPER + ".size": size, UPPER + ".folders": folders}
    made = oci.spec(script, annotations={k: v for k, v in annotations.items() if v}, **changes)
    made["process"]["capabilities"] = {kind: PRIVILEGED for kind in
                                       ("bounding", "effective", "permitted")}
    return made


def told(engine, document, name="box"):
    """What a container writes to its end, which is a good one."""
    box = engine.create(name, document).start()
    out, err = box.output()
    assert box.wait() == 0, (out, err)
    box.delete().ok()
    return out.decode().splitlines()


def open_images(host):
    """Disks of writable layers that a process has open, as (pid, bytes that they take)."""
    found = []
    for process in host.new_processes():
        for path in pathlib.Path(f"/proc/{process.pid}/fd").glob("*"):
            try:
                name, info = os.readlink(path), os.stat(path)
            except OSError:
                continue
            if name.startswith(str(host.data)) and name.endswith("(deleted)"):
                found.append((process.pid, info.st_blocks * 512))
    return found


def loops(host):
    return [path for path in pathlib.Path("/sys/block").glob("loop*/loop/backing_file")
            if str(host.folder) in path.read_text()]


# --- what a container sees
@pytest.mark.parametrize("transport", TRANSPORTS)
@LAYERED
def test_files_behave(engine, host, probe, upper, transport):
    host.configure(sharing={"transport": transport})
    (engine.rootfs / "probe").mkdir()  # what is missing is made on the host, too, for the stand-in
    before = images.fingerprint(engine.rootfs)
    document = spec("mkdir /at && cd /at && exec /probe/probe", upper)
    document["mounts"].append({"destination": "/probe", "type": "bind", "source": str(probe),
                               "options": ["rbind", "ro"]})
    lines = told(engine, document)
    # The overlay of Linux 6.1 has no O_TMPFILE, and its tmpfs no attributes of the user's.
    allowed = {"nameless file": "Operation not supported"}
    if upper == "memory":
        allowed["user attributes"] = "Operation not supported"
    wrong = dict(line.split(": ") for line in lines if not line.startswith("ok "))
    assert wrong == allowed, lines
    assert len(lines) == 13, lines
    assert images.fingerprint(engine.rootfs) == before


@pytest.mark.parametrize("transport", TRANSPORTS)
@LAYERED
def test_the_image_stays_as_it_is(engine, host, upper, transport):
    host.configure(sharing={"transport": transport})
    os.chown(engine.rootfs, 1000, 29)
    os.chmod(engine.rootfs, 0o751)
    before = images.fingerprint(engine.rootfs)
    lines = told(engine, spec("""
        stat -c '%u:%g %a' /; sed -n 's/^\\([a-z]*\\) [/] .*/\\1/p' /proc/mounts
        echo more >> /etc/passwd; tail -n 1 /etc/passwd; rm /bin/vi; ls /bin/vi 2>&1
        mv /etc/group /etc/passwd; head -n 1 /etc/passwd; rm -r /root; mkdir /root; ls -A /root
        chown -R 7:8 /home; stat -c %u:%g /home/alice; mv /home /elsewhere; ls / | grep -c home
        ln -s /etc/passwd /link; echo via > /link; cat /etc/passwd; mknod /n c 1 3; echo x > /n
        """, upper))
    assert lines == ["1000:29 751", "overlay", "more", "ls: /bin/vi: No such file or directory",
                     "root:x:0:", "7:8", "0", "via"]
    assert images.fingerprint(engine.rootfs) == before
    assert told(engine, spec("test ! -e /n; tail -n 1 /etc/passwd; ls /bin/vi", upper)) == [
        images.PASSWD.splitlines()[-1], "/bin/vi"], "nothing is seen by the next"


def test_shared_is_what_it_was(engine):
    assert told(engine, spec("echo kept > /kept; stat -f -c %T /", "shared"))[0] != "overlayfs"
    assert (engine.rootfs / "kept").read_text() == "kept\n"


@LAYERED
def test_readonly(engine, upper):
    document = spec("touch /x || touch /etc/x || echo refused; sed -n 's/.* [/] //p' /proc/mounts",
                    upper)
    document["root"]["readonly"] = True
    document["mounts"].append({"destination": "/not/there/yet", "type": "tmpfs",
                               "source": "tmpfs"})
    lines = told(engine, document)
    assert lines[0] == "refused" and lines[1].startswith("overlay ro,"), lines


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_marks_of_an_overlay_in_the_image(engine, host, transport):
    """A rootfs that is another overlay's upper folder: its marks mean nothing here."""
    host.configure(sharing={"transport": transport})
    folder = engine.rootfs / "etc"
    for name, value in (("opaque", b"y"), ("redirect", b"/home"), ("impure", b"y"),
                        ("origin", b"\0\xfb\x15\0\0")):
        os.setxattr(folder, "trusted.overlay." + name, value)
    lines = told(engine, spec("ls /etc; echo x > /etc/new; cat /etc/new; mv /etc /cte; ls /cte",
                              "block"))
    assert lines == ["group", "passwd", "x", "group", "new", "passwd"]


def test_the_rootfs_is_fixed_on_the_host(engine, host):
    """A guest that writes all the same is not believed: each mount of the rootfs is read-only."""
    engine.create("box", spec(SLEEP, "block")).start()
    seen = {}
    for process in host.new_processes():
        lines = pathlib.Path(f"/proc/{process.pid}/mountinfo").read_text().splitlines()
        for words in map(str.split, lines):
            if words[4].endswith("/1/rootfs"):
                seen.setdefault(process.name, set()).add(words[5].split(",")[0])
    assert seen and set.union(*seen.values()) == {"ro"}, seen
    engine("kill", "box", "KILL").ok()


# --- size
@LAYERED
def test_full(engine, upper):
    lines = told(engine, spec("""
        dd if=/dev/zero of=/big bs=1M count=100 2>&1 | grep -c 'No space left'; rm /big
        dd if=/dev/zero of=/small bs=1M count=8 2>/dev/null && sync && echo fits
        df -m / | awk 'END { print ($2 <= 16) }'""", upper, "16m"))
    assert lines == ["1", "fits", "1"]


def test_memory_is_half_of_the_limit(engine):
    document = spec("df -m / | awk 'END { print $2 }'; dd if=/dev/zero of=/big bs=1M count=100 "
                    "2>&1 | grep -c 'No space left'", "memory")
    document["linux"]["resources"] = {"memory": {"limit": 64 << 20}}
    assert told(engine, document) == ["32", "1"]


def test_what_is_deleted_goes_back_to_the_host(engine, host):
    box = engine.create("box", spec(
        "dd if=/dev/urandom of=/big bs=1M count=64 2>/dev/null; sync; echo written; read x; "
        "rm /big; sync; echo deleted; read x", "block")).start()
    assert box.stdout.readline() == b"written\n"
    (qemu, size), = open_images(host)
    assert qemu == host.qemu().pid and size > 60 << 20
    box.stdin.write(b"\n")
    assert box.stdout.readline() == b"deleted\n"
    eventually(lambda: open_images(host)[0][1] < 10 << 20, what="the space")
    box.stdin.write(b"\n")
    assert box.wait() == 0
    box.delete().ok()
    assert open_images(host) == []


# --- overlays in the container
@LAYERED
def test_an_overlay_in_the_container(engine, upper):
    document = spec(["sh", "-c", INNER, "sh", "/var/lib/docker"], upper,
                    folders="/var/lib/docker:/var/lib/other")
    assert told(engine, document) == INNER_TELLS


@pytest.mark.parametrize("upper", ["shared", "block", "memory"])
def test_no_overlay_writes_to_the_root_itself(engine, upper):
    """The kernel makes none whose upper folder is on an overlay, or on the share."""
    box = engine.create("box", spec(["sh", "-c", INNER, "sh", "/there"], upper)).start()
    out, err = box.output()
    assert box.wait() != 0 and b"mounting overlay" in err, (out, err)


@LAYERED
def test_folders_have_the_images_owner_and_mode(engine, upper):
    document = spec(
        "stat -c '%u:%g %a' /home/alice /new/folder; ls -A /home/alice; stat -f -c %T /home/alice",
        upper, folders="/home/alice:/new/folder")
    # What an image of Docker's has as a volume.
    document["mounts"].append({"destination": "/home/alice", "type": "bind", "options": ["rbind"],
                               "source": str(engine.rootfs / "etc")})
    assert told(engine, document) == [
            "1000:1000 755", "0:0 755", "ext2/ext3" if upper == "block" else "tmpfs"]


# --- several, and their ends
def test_two_in_one_pod(engine, host):
    first = spec(SLEEP, "block", "32m")
    first["annotations"]["io.kubernetes.cri.container-type"] = "sandbox"
    sandbox = engine.create("pod", first).start()
    boxes = []
    for name in ("one", "two"):
        document = spec(f"echo {name} > /mine; {SLEEP}", "block", "32m")
        document["annotations"].update({"io.kubernetes.cri.container-type": "container",
                                        "io.kubernetes.cri.sandbox-id": "pod"})
        boxes.append(engine.create(name, document).start())
    for box in boxes:
        assert box.stdout.readline() == b"ready\n"
        assert engine("exec", box.name, "cat", "/mine").ok().text == box.name + "\n"
    assert len(open_images(host)) == 2
    engine("kill", "one", "KILL").ok()
    boxes[0].wait()
    boxes[0].delete().ok()
    assert len(open_images(host)) == 1, "its disk goes with it, the VM runs on"
    assert engine("exec", "two", "cat", "/mine").ok().text == "two\n"
    for name in ("two", "pod"):
        engine("kill", name, "KILL").ok()
    boxes[1].wait()
    sandbox.wait()


def test_much_that_is_not_written_yet_does_not_hold_up_the_end(engine):
    box = engine.create("box", spec("dd if=/dev/zero of=/big bs=1M count=200 2>/dev/null; exit 3",
                                    "block")).start()
    assert os.WEXITSTATUS(box.wait()) == 3
    box.delete().ok()


# --- errors
@pytest.mark.parametrize("key, value, words", [
    ("", "disk", ("\"disk\" is none of shared, block, memory",)),
    (".size", "5m", ("5m", "16m")), (".size", "5", ("16m",)),
    (".size", "17t", ("17t", "16t")), (".size", "much", ("much", "not a size")),
    (".folders", "var", ("\"var\"", "absolute")), (".folders", "/a:/b/../c", ("absolute",)),
    (".folders", "/", ("absolute",)), (".folders", "/a::/b", ("absolute",))])
def test_bad_values(engine, key, value, words):
    document = spec("true", "block")
    document["annotations"][UPPER + key] = value
    box = engine.create("box", document, succeeds=False)
    assert box.created == 1
    for word in (f"annotation {UPPER}{key}", *words):
        assert word in engine.last_error()
    assert not (engine.host.state / "containers" / "box").exists()


def test_more_memory_than_there_is(engine):
    document = spec("true", "memory", "100m")
    document["linux"]["resources"] = {"memory": {"limit": 64 << 20}}
    engine.create("box", document, succeeds=False)
    assert "memory limit" in engine.last_error() and UPPER in engine.last_error()
    engine.create("two", spec("true", "memory", "100g"), succeeds=False)
    assert "rootfs.upper" in engine.last_error() and "guest's memory" in engine.last_error()


def test_tool_missing(engine, host):
    host.configure(rootfs={"mkfs": "/nonexistent/mkfs.ext4"})
    engine.create("box", spec("true", "block"), succeeds=False)
    for word in (UPPER, "/nonexistent/mkfs.ext4", "e2fsprogs"):
        assert word in engine.last_error()


def test_not_allowed(engine, host):
    host.configure(annotations={"allowed": []})
    engine.create("box", spec("true", "block"), succeeds=False)
    assert f"annotation {UPPER}: not allowed" in engine.last_error()


def test_no_space_for_the_disk(host, busybox):
    """The host's disk is full: the container has errors, and nothing else."""
    host.data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "full", host.data], check=True,
                   timeout=10)
    try:
        told_ = host.shell(busybox, "dd if=/dev/zero of=/big bs=1M count=60 conv=fsync 2>&1; "
                           "echo $?; echo alive > /dev/shm/x; cat /dev/shm/x", "--upper", "block")
        assert told_.ok().lines[-1] == "alive" and "error" in told_.text, str(told_)
    finally:
        eventually(lambda: subprocess.run(["umount", host.data], check=False, timeout=10,
                                          capture_output=True).returncode == 0, 20, "umount")


# --- bulkhead run
@LAYERED
def test_run(host, busybox, upper):
    out = host.shell(busybox, "rm /bin/vi; echo x > /new; cat /new; df -m / | awk 'END{print $2}';"
                     "stat -f -c %T /data", "--upper", upper + ":64m", "--upper-folder",
                     "/data").ok()
    assert out.lines[0] == "x" and 48 <= int(out.lines[1]) <= 64, str(out)
    assert out.lines[2] == ("ext2/ext3" if upper == "block" else "tmpfs"), str(out)
    host.run("--upper", upper, "--read-only", busybox, "touch", "/x").ok(1)
    assert [path for path in host.data.iterdir() if path.name not in ("layers", "pods")] == []


def test_run_by_the_configuration(host, busybox):
    host.configure(rootfs={"upper": "memory", "upper_size": "48m", "upper_folders": "/a"})
    out = host.shell(busybox, "df -m / /a | awk '{print $2}'").ok()
    assert out.lines[1:] == ["48", "48"]
    assert host.shell(busybox, "stat -f -c %T /", "--upper", "shared").ok().text != "overlayfs\n"


@pytest.mark.parametrize("value, word", [("disk", "disk"), ("block:1m", "1m")])
def test_run_bad_values(host, busybox, value, word):
    host.run("--upper", value, busybox, "true").fails(UPPER, word)


def test_run_folder_without_a_layer(host, busybox):
    host.run("--upper-folder", "/a", busybox, "true").fails("--upper-folder")


# --- kill -9
@pytest.mark.parametrize("victim", ["qemu", "daemon", "command"])
def test_kill_9(host, busybox, victim):
    process = host.start("run", "--rm", "--name", "box", "--upper", "block", busybox, "sh", "-c",
                         "dd if=/dev/urandom of=/x bs=1M count=8 2>/dev/null; sync; " + SLEEP)
    assert process.stdout.readline() == b"ready\n", process.stderr.read()
    assert [size > 8 << 20 for _, size in open_images(host)] == [True]
    pids = {"qemu": host.qemu().pid, "daemon": host.qemu().parent, "command": process.pid}
    os.kill(pids[victim], signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    eventually(lambda: not host.new_processes(), 20, "the end of the VM")
    host("rm", "-f", "box")
    assert open_images(host) == [] and loops(host) == [] and mounts_below(host.folder) == []
    assert [path for path in host.data.iterdir() if path.name not in ("layers", "pods")] == []
