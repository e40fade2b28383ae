"""Folders and files of the host in a container, while both sides change them; beside runc."""

import contextlib
import os
import pathlib
import re
import shutil
import socket
import subprocess
import threading
import time

import files
import oci
import pytest
from host import Host, descendants, eventually, mounts_below

SLEEP = "exec sleep 100000"
RUNTIMES = ["runc", *files.TRANSPORTS]
SOON = 5  # seconds; a guest remembers names for one, and machines are not always idle


def tool(*words):
    subprocess.run([str(word) for word in words], check=True, timeout=30)


class Runtime:
    """runc, or Bulkhead with one transport."""

    def __init__(self, kind, rootfs, runc="runc"):
        self.kind, self.is_vm = kind, kind != "runc"
        self.host = Host(sharing=files.sharing(kind) if self.is_vm else None)
        if not self.is_vm:
            self.host.executable = runc
        self.engine = oci.Engine(self.host, rootfs)

    def create(self, name, mounts, rootfs=None, join=None, **rest):
        """A container that waits; mounts are (source, destination, option..., {field: value})."""
        document = files.spec(SLEEP)
        for source, place, *words in mounts:
            mount = {"destination": place, "type": "bind", "source": str(source),
                     "options": [word for word in words if isinstance(word, str)]}
            for fields in words[len(mount["options"]):]:
                mount.update(fields)
            document["mounts"].append(mount)
        if join:
            next(entry for entry in document["linux"]["namespaces"]
                 if entry["type"] == "network")["path"] = f"/proc/{join.pid}/ns/net"
        self.engine.rootfs = rootfs or self.engine.rootfs
        box = self.engine.create(name, document, **rest)
        return box.start() if rest.get("succeeds", True) else box

    def exec(self, script, name="box", **rest):
        return self.engine("exec", name, "sh", "-c", script, **rest)

    def told(self, script, name="box"):
        return self.exec(script, name).ok().text.strip()

    def close(self):
        self.engine.close()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        self.host.executable = None
        self.host.close()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return files.probed(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module", params=RUNTIMES)
def runtime(request, base):
    if request.param == "runc" and not shutil.which("runc"):
        pytest.skip("runc is missing")
    made = Runtime(request.param, base)
    yield made
    made.close()


@pytest.fixture(scope="module")
def source():
    """A folder whose mounts reach the namespaces that follow it; short, for sockets' sake."""
    folder = pathlib.Path(subprocess.run(["mktemp", "-d", "/tmp/bh-XXXXXX"], check=True,
                                         capture_output=True, text=True, timeout=10).stdout.strip())
    tool("mount", "--bind", folder, folder)
    tool("mount", "--make-shared", folder)
    yield folder
    tool("umount", "-R", "-l", folder)
    shutil.rmtree(folder)


def bare(source):
    """Unmounts what is below it."""
    for line in reversed(mounts_below(f"{source}/")):
        tool("umount", "-l", line.split()[4])


NAMES = ("folder", "config", "ro", "tree", "flat", "slave", "private", "outer", "inner", "sub/a/b",
         "gone")


@pytest.fixture(scope="module")
def box(runtime, source):
    """One container with every kind of volume; the folders of the host are made anew."""
    bare(source)
    for name in os.listdir(source):
        shutil.rmtree(source / name) if (source / name).is_dir() else (source / name).unlink()
    for name in NAMES:
        (source / name).mkdir(parents=True)
    (source / "file").write_text("old\n")
    (source / "replaced").write_text("old\n")
    (source / "inner" / "there").write_text("inner\n")
    for name in ("tree", "flat", "ro"):
        (source / name / "below").mkdir()
        tool("mount", "-t", "tmpfs", "tmpfs", source / name / "below")
        (source / name / "below" / "there").write_text("below\n")
    (source / "config" / "..1").mkdir()
    (source / "config" / "..1" / "key").write_text("one\n")
    (source / "config" / "..data").symlink_to("..1")
    (source / "config" / "key").symlink_to("..data/key")
    runtime.create("box", [
        (source / "folder", "/folder", "rbind", "rw"),
        (source / "file", "/etc/file", "bind", "rw"),
        (source / "replaced", "/etc/replaced", "bind", "rw"),
        (source / "config", "/config", "rbind", "ro"),
        (source / "ro", "/ro", "rbind", "ro"),
        (source / "tree", "/tree", "rbind", "rw"),
        (source / "flat", "/flat", "bind", "rw"),
        (source / "slave", "/slave", "rbind", "rslave", "rw"),
        (source / "private", "/private", "rbind", "rprivate", "rw"),
        (source / "outer", "/outer", "rbind", "rw"),
        (source / "inner", "/outer/new/inner", "rbind", "rw"),
        (source / "sub/a/b", "/sub", "bind", "rw"),
        (source / "gone", "/gone", "rbind", "rw")])
    yield source
    runtime.engine("kill", "box", "KILL")
    runtime.engine("delete", "--force", "box").ok()
    bare(source)


def test_folder(runtime, box):
    (box / "folder" / "host").write_text("host\n")
    told = runtime.told("cat /folder/host; echo guest > /folder/guest; chown 7:8 /folder/guest")
    assert told == "host"
    made = box / "folder" / "guest"
    assert (made.read_text(), made.stat().st_uid, made.stat().st_gid) == ("guest\n", 7, 8)
    (box / "folder" / "host").write_text("longer than before\n")
    assert runtime.told("cat /folder/host") == "longer than before"
    (box / "folder" / "host").unlink()
    eventually(lambda: runtime.told("ls /folder") == "guest", SOON, "its removal")


def test_file(runtime, box):
    assert runtime.told("cat /etc/file") == "old"
    with open(box / "file", "w", encoding="ascii") as file:  # the same inode
        file.write("longer\n")
    assert runtime.told("cat /etc/file; echo guest > /etc/file") == "longer"
    assert (box / "file").read_text() == "guest\n"


def test_the_top_of_the_share(runtime, box):
    """Who takes its server over lays no link where the host makes things, or mounts."""
    if not runtime.is_vm:
        pytest.skip("runc has none")
    word = "qemu-system" if runtime.kind == "9p" else "virtiofsd"
    server = next(process.pid for process in descendants()
                  if word in process.command and str(runtime.host.state) in process.command)
    top = "/"
    if runtime.kind == "9p":
        lines = pathlib.Path(f"/proc/{server}/mountinfo").read_text().splitlines()
        top = next(line.split()[4] for line in lines if line.split()[4].endswith("/shared"))

    def as_server(script):
        return subprocess.run(["sh", "-c", script], cwd=f"/proc/{server}/root{top}", check=False,
                              capture_output=True, text=True, timeout=30)
    for script in ("ln -s /etc link", "ln -s /etc volumes/link", "mv volumes other", "rmdir volumes"):
        assert "Read-only" in as_server(script).stderr
    assert as_server("cd */rootfs && touch written && rm written").returncode == 0


def test_file_replaced_on_the_host(runtime, box):
    """A file's mount is of the inode; a folder's sees the new one."""
    (box / "folder" / "replaced").write_text("old\n")
    assert runtime.told("cat /folder/replaced /etc/replaced").split() == ["old", "old"]
    for place in (box, box / "folder"):
        (place / "fresh").write_text("new\n")
        os.replace(place / "fresh", place / "replaced")
    eventually(lambda: runtime.told("cat /folder/replaced") == "new", SOON, "the new file")
    time.sleep(1.2)
    assert runtime.told("cat /etc/replaced") == "old"


def test_file_replaced_by_the_container(runtime, box):
    told = runtime.exec("echo x > /etc/fresh; mv /etc/fresh /etc/file; rm /etc/file")
    assert told.code != 0 and told.error.count("busy") == 2, told
    assert (box / "file").exists()


def test_swapped_configuration(runtime, box):
    """Kubernetes' way of changing a ConfigMap is seen within about a second."""
    loop = runtime.engine.host.start(
        "--root", runtime.host.state, "exec", "box", "sh", "-c",
        "cat /config/key; until [ $(cat /config/key) = two ]; do usleep 50000; done; echo seen")
    assert loop.stdout.readline() == b"one\n"
    (box / "config" / "..2").mkdir()
    (box / "config" / "..2" / "key").write_text("two\n")
    (box / "config" / "..new").symlink_to("..2")
    start = time.monotonic()
    os.replace(box / "config" / "..new", box / "config" / "..data")
    assert loop.stdout.readline() == b"seen\n", loop.stderr.read()
    took = time.monotonic() - start
    assert loop.wait(30) == 0 and took < SOON, took


def test_socket_of_the_host(runtime, box):
    """It is seen, but its listener is in another kernel."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(box / "folder" / "socket"))
        listener.listen()

        def serve():
            with contextlib.suppress(OSError):
                listener.accept()[0].sendall(b"hello")
        threading.Thread(target=serve, daemon=True).start()
        told = runtime.exec("[ -S /folder/socket ] && probe connect /folder/socket")
        assert told.text.strip() == ("ECONNREFUSED" if runtime.is_vm else "hello"), told
        listener.shutdown(socket.SHUT_RDWR)


def test_fifo_of_the_host(runtime, box):
    """Its bytes stay in the kernel of who writes them."""
    fifo = box / "folder" / "fifo"
    os.mkfifo(fifo)
    with open(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
        told = runtime.exec("[ -p /folder/fifo ] && timeout 2 sh -c 'echo hello > /folder/fifo'")
        assert (told.code, reader.read()) == ((143, b"") if runtime.is_vm else (0, b"hello\n")), told
    told = runtime.exec("(cat /folder/fifo &) ; echo among us > /folder/fifo; sleep 0.1")
    assert told.text == "among us\n", told


def test_read_only(runtime, box):
    told = runtime.exec("touch /ro/x; echo x > /ro/below/made; echo $?")
    assert "/ro/x: Read-only file system" in told.error, told
    if not runtime.is_vm:
        assert told.text == "0\n"  # `ro` is of the mount alone
        return  # and who may mount may change it
    # The guest mounts what is below as it mounted what is above.
    assert told.text == "1\n" and "/ro/below/made: Read-only file system" in told.error, told
    told = runtime.exec("mount -o remount,bind,rw /ro && touch /ro/x")
    assert told.code != 0 and "/ro/x: Read-only file system" in told.error, told
    assert not (box / "ro" / "x").exists()
    # What is below it is the guest's word alone.
    told = runtime.exec("mount -o remount,bind,rw /ro/below; echo x > /ro/below/made").ok()
    assert (box / "ro" / "below" / "made").read_text() == "x\n"


def test_submounts(runtime, box):
    assert runtime.told("cat /tree/below/there") == "below"
    assert runtime.told("echo guest > /tree/below/made; ls -A /flat/below") == ""
    assert (box / "tree" / "below" / "made").read_text() == "guest\n"


def test_mounted_while_it_runs(runtime, box):
    (box / "slave" / "late").mkdir()
    (box / "private" / "late").mkdir()
    assert runtime.told("ls -A /slave/late /private/late").split() == [
        "/private/late:", "/slave/late:"]
    for name in ("slave", "private"):
        tool("mount", "-t", "tmpfs", "tmpfs", box / name / "late")
        (box / name / "late" / "there").write_text("late\n")
    eventually(lambda: runtime.exec("cat /slave/late/there").text == "late\n", SOON, "the mount")
    assert runtime.exec("cat /private/late/there").code != 0
    runtime.told("echo guest > /slave/late/made")
    assert (box / "slave" / "late" / "made").read_text() == "guest\n"
    for name in ("slave", "private"):
        # Lazily: virtiofsd keeps hold of the files that the guest knows.
        tool("umount", "-l", box / name / "late")
    eventually(lambda: runtime.told("ls -A /slave/late") == "", SOON, "its end")


def test_volume_below_a_volume(runtime, box):
    assert runtime.told("cat /outer/new/inner/there; echo x > /outer/new/inner/made; "
                        "echo y > /outer/beside") == "inner"
    assert (box / "inner" / "made").read_text() == "x\n"
    # The place is made in the folder of the host; what is over it stays out of it.
    assert [sorted(os.listdir(box / "outer" / path)) for path in (".", "new", "new/inner")] == [
        ["beside", "new"], ["inner"], []]


def test_folder_moved_on_the_host(runtime, box):
    """As kubelet's subPath: the mount stays with the folder, wherever it goes."""
    (box / "sub" / "a" / "b" / "there").write_text("there\n")
    assert runtime.told("cat /sub/there") == "there"
    (box / "sub" / "a").rename(box / "sub" / "z")
    assert runtime.told("cat /sub/there; echo guest > /sub/made") == "there"
    assert (box / "sub" / "z" / "b" / "made").read_text() == "guest\n"


def test_folder_deleted_on_the_host(runtime, box):
    (box / "gone" / "there").write_text("x")
    assert runtime.told("ls /gone") == "there"
    shutil.rmtree(box / "gone")
    (box / "gone").mkdir()
    (box / "gone" / "another").write_text("x")
    eventually(lambda: runtime.told("ls -A /gone") == "", SOON, "its emptiness")
    told = runtime.exec("touch /gone/x")
    assert told.code != 0 and "No such file or directory" in told.error, told


# --- several containers
@contextlib.contextmanager
def probing(runtime, name, word, path, says):
    """A process of the container runs the probe, until it is killed."""
    holder = runtime.engine.host.start("--root", runtime.host.state, "exec", name, "probe", word,
                                       path)
    try:
        told = holder.stdout.readline()
        assert told == says + b"\n", told + holder.stderr.read()
        yield holder
    finally:
        runtime.exec("killall -9 probe", name)
        holder.communicate(timeout=30)


def locked(runtime, path, name="box"):
    """The container holds a lock of the file."""
    return probing(runtime, name, "hold", path, b"held")


@pytest.fixture
def second(runtime, box):
    """Another container in the pod of the first, with volumes like and unlike its."""
    if not runtime.is_vm:
        pytest.skip("a pod of runc's is the engine's affair")
    first = next(made for made in runtime.engine.containers if made.name == "box")
    made = runtime.create("two", [
        (box / "folder", "/elsewhere", "rbind", "rw", "rslave"),
        (box / "file", "/file", "bind"),
        (box / "folder", "/private", "rbind", "rprivate")], join=first)
    yield made
    made.close()


def test_two_containers_of_a_pod(runtime, box, second):
    """What one writes the other sees at its next open, whatever its mount is like."""
    runtime.told("echo one > /folder/pod")
    for place in ("/elsewhere", "/private"):
        assert runtime.told(f"cat {place}/pod; echo more >> {place}/pod", "two") == "one"
        assert runtime.told("cat /folder/pod") == "one\nmore"
        runtime.told("echo one > /folder/pod")
    second.close()
    assert runtime.told("cat /folder/pod /etc/file; echo more >> /folder/pod")
    assert (box / "folder" / "pod").read_text() == "one\nmore\n"


@pytest.mark.parametrize("path, others", [("/folder/pod", "/elsewhere/pod"),
                                          ("/etc/file", "/file")])
def test_locks_and_mappings_in_a_pod(runtime, box, second, path, others):
    """A volume that two containers have alike is one file for both, as with runc."""
    runtime.told(f"echo one > {path}")
    with locked(runtime, path):
        assert runtime.told(f"probe lock {others}", "two") == "EAGAIN"
    with locked(runtime, others, "two"):
        assert runtime.told(f"probe lock {path}") == "EAGAIN"
    assert runtime.told(f"probe lock {others}", "two") == "held"
    with probing(runtime, "box", "watch", path, b"mapped") as watcher:
        with probing(runtime, "two", "poke", others, b"mapped"):
            assert watcher.stdout.readline() == b"changed\n"


def test_a_mount_unlike_the_first_has_locks_of_its_own(runtime, box, second):
    runtime.told("echo one > /folder/pod")
    with locked(runtime, "/folder/pod"):
        assert runtime.told("probe lock /private/pod", "two") == "held"


def test_two_pods(runtime, box):
    if not runtime.is_vm:
        pytest.skip("runc has no pods")
    second = runtime.create("two", [(box / "folder", "/folder", "rbind", "rw")])
    try:
        runtime.told("echo one > /folder/pods")
        eventually(lambda: runtime.exec("cat /folder/pods", "two").text == "one\n", SOON, "it")
        runtime.told("echo more >> /folder/pods", "two")
        assert runtime.told("cat /folder/pods") == "one\nmore"  # opened after it was closed
        with locked(runtime, "/folder/pods"):
            assert runtime.told("probe lock /folder/pods", "two") == "held"  # each VM its own
        runtime.told("rm /folder/pods", "two")
        eventually(lambda: runtime.exec("cat /folder/pods").code != 0, SOON, "its removal")
    finally:
        second.close()


# --- ids
MAPPED = {f"{kind}Mappings": [{"containerID": 0, "hostID": 100000, "size": 1000}]
          for kind in ("uid", "gid")}
NOBODY = 2**32 - 2


def new_runc():
    """Debian's knows mappings of mounts only beside a user namespace."""
    built = subprocess.run([files.ROOT / "test/conformance/build-tools", "--print", "runc"],
                           capture_output=True, text=True, timeout=60, check=False)
    program = f"{built.stdout.strip()}/runc" if built.returncode == 0 else shutil.which("runc")
    if not program:
        pytest.skip("runc is missing")
    told = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=30,
                          check=True).stdout
    if tuple(map(int, re.search(r"(\d+)\.(\d+)", told).groups())) < (1, 2):
        pytest.skip("needs a runc of at least 1.2: test/conformance/build-tools runc")
    return program


@pytest.fixture(params=RUNTIMES)
def mapping_runtime(request, base):
    made = Runtime(request.param, base, new_runc() if request.param == "runc" else None)
    yield made
    made.close()


@pytest.fixture
def mapped(source):
    """A folder with another file system below it."""
    folder = source / "ids"
    (folder / "below").mkdir(parents=True)
    tool("mount", "-t", "tmpfs", "tmpfs", folder / "below")
    (folder / "there").write_text("x")
    os.chown(folder / "there", 5, 6)
    yield folder
    tool("umount", "-l", folder / "below")
    shutil.rmtree(folder)


def owner(path):
    return (path.lstat().st_uid, path.lstat().st_gid)


def test_id_maps(mapping_runtime, mapped):
    """The same numbers with runc as here, in both directions."""
    runtime = mapping_runtime
    runtime.create("mapped", [
        (mapped, "/plain", "rbind"), (mapped, "/ids", "rbind", MAPPED),
        (mapped / "there", "/file", "bind", "idmap", MAPPED),
        (mapped, "/all", "rbind", "ridmap", MAPPED)])

    def owners(*paths):
        return runtime.told("stat -c %u:%g " + " ".join(paths), "mapped").split()
    assert owners("/ids", "/ids/there", "/ids/below", "/file", "/all", "/all/below") == [
        "100000:100000", "100005:100006", "0:0", "100005:100006", "100000:100000", "100000:100000"]
    runtime.told("chown 100007:100008 /ids/there", "mapped")
    assert owner(mapped / "there") == (7, 8)
    assert owners("/plain/there") == ["7:8"]
    made = runtime.engine("exec", "--user", "100000:100009", "mapped", "sh", "-c",
                          "umask 0; echo x > /ids/made; mkdir /ids/folder; ln -s a /ids/link").ok()
    assert not made.error, made
    assert [owner(mapped / name) for name in ("made", "folder", "link")] == [(0, 9)] * 3
    # Nobody on the disk stands for the container's own root.
    told = runtime.exec("touch /ids/root; chown 0 /ids/there; ls /ids", "mapped")
    if runtime.kind == "9p":  # its server makes files as root: docs/storage.md
        assert owner(mapped / "root") == (NOBODY, NOBODY) and owner(mapped / "there") == (NOBODY, 8)
    else:
        assert ("/ids/root: Value too large" in told.error and not (mapped / "root").exists()
                and owner(mapped / "there") == (7, 8)), told
    os.chown(mapped / "there", 1, 2)
    eventually(lambda: owners("/ids/there") == ["100001:100002"], SOON, "the new owner")
    os.chown(mapped / "there", 1000, 2)  # beyond the mapping
    eventually(lambda: owners("/ids/there") == ["65534:100002"], SOON, "the owner without a name")


@pytest.mark.parametrize("mapping_runtime", ["virtiofs"], indirect=True)
def test_id_maps_that_cannot_be(mapping_runtime, mapped, tmp_path):
    runtime = mapping_runtime
    with files.overlay(mapped, tmp_path) as merged:
        runtime.create("box", [(merged, "/over", "rbind", MAPPED)], succeeds=False)
        for word in ("/over", str(merged), "does not support"):
            assert word in runtime.engine.last_error()
    runtime.create("box", [("/dev/shm", "/dev/shm", "bind", MAPPED)], succeeds=False)
    for word in ("/dev/shm", "id mappings", "guest"):
        assert word in runtime.engine.last_error()
    runtime.create("box", [(mapped, "/bad", "bind", {
        kind: [{"containerID": first, "hostID": 5 + first, "size": 9} for first in (0, 3)]
        for kind in MAPPED})], succeeds=False)
    for word in ("/bad", "id mappings", str(mapped)):
        assert word in runtime.engine.last_error()


# --- places
@pytest.mark.parametrize("link", ["/work", "../../../../../work", "loop/../work"])
def test_place_behind_a_symlink(runtime, source, base, tmp_path, link):
    """Whatever a link of the image says, the mount is in the container."""
    rootfs = tmp_path / "rootfs"
    shutil.copytree(base, rootfs, symlinks=True)
    (rootfs / "loop").mkdir()
    (rootfs / "escape").symlink_to(link)
    (source / "placed").mkdir(exist_ok=True)
    (source / "placed" / "there").write_text("placed\n")
    usual = runtime.engine.rootfs
    made = runtime.create("placed", [(source / "placed", "/escape/made", "bind", "ro")], rootfs)
    runtime.engine.rootfs = usual
    try:
        assert runtime.told("cat /work/made/there", "placed") == "placed"
        assert sorted(os.listdir(rootfs / "work")) == ["made"]
    finally:
        made.close()
