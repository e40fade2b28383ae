"""Root file systems that are block devices or image files: drives of the VM."""

import contextlib
import shutil
import subprocess

import files
import images
import pytest
from containerd import IMAGE
from host import PATIENCE, eventually
from snapshotter import Snapshotter, loops_of, tool

SLEEP = ("sleep", "100000")
KINDS = ("loop", "file", "packed")
WRITABLE = ("loop", "file")
CRI = "io.kubernetes.cri"

pytestmark = pytest.mark.vm_only


@pytest.fixture(scope="module")
def snapshotters(engine, tmp_path_factory):
    """Each kind, served for all tests here; none may hold a loop device at the end."""
    with contextlib.ExitStack() as stack:
        served = {kind: stack.enter_context(
            Snapshotter(engine, kind, tmp_path_factory.mktemp(kind))) for kind in KINDS}
        for kind in KINDS:  # containerd, which knocked in vain before, knocks again after a while
            words = ("snapshots", "--snapshotter", kind)
            eventually(lambda words=words: engine(*words, "prepare", "probe").code == 0,
                       what=f"the snapshotter {kind}")
            engine(*words, "rm", "probe").ok()
        yield served
        images = [entry["image"] for each in served.values() for entry in each.entries.values()]
    assert [device for image in images for device in loops_of(image)] == []


@pytest.fixture
def snapshotter(snapshotters, request):
    if request.param == "packed" and not shutil.which("mkfs.erofs"):
        pytest.skip("mkfs.erofs is missing (package erofs-utils)")
    return snapshotters[request.param]


def each(*kinds):
    return pytest.mark.parametrize("snapshotter", kinds, indirect=True)


def inside(image, path):
    """A file of the ext4 in the image, which nobody may have mounted."""
    return subprocess.run(["debugfs", "-R", f"cat {path}", str(image)], capture_output=True,
                          timeout=30, check=True).stdout


def is_released(image):
    """Nobody holds the image, or the loop device that it is behind."""
    for device in loops_of(image):
        tool("losetup", "-d", device)  # a device in use would only be marked
    return not loops_of(image)


@each(*KINDS)
def test_run(engine, name, snapshotter):
    told = engine.run(name, "sh", "-c", "stat -f -c %T /; sed -n 's/^[^ ]* [/] //p' /proc/mounts; "
                      "touch /new && echo written; exit 7",
                      options=["--snapshotter", snapshotter.kind]).ok(7)
    erofs = snapshotter.kind == "packed"
    assert ("erofs" if erofs else "ext4") in told.lines[1], str(told)
    assert ("written" in told.lines) == (not erofs), str(told)


@each(*WRITABLE)
def test_writes_persist(engine, name, snapshotter):
    """Without a sync of the container's: the guest unmounts at the task's deletion."""
    engine("run", *engine.chosen, "--snapshotter", snapshotter.kind, IMAGE, name,
           "sh", "-c", "echo kept > /kept").ok()
    image = snapshotter.image(name)
    assert is_released(image)
    assert inside(image, "/kept") == b"kept\n"
    engine("task", "start", name).ok()  # once more from the same files
    engine("task", "rm", name)
    engine("container", "rm", name).ok()


@each(*KINDS)
def test_two_at_once(engine, name, snapshotter):
    started = [engine.start(*engine.words(
        f"{name}-{number}", "sh", "-c", f"echo {number} > /dev/shm/x; sleep 1; cat /dev/shm/x",
        options=["--rm", "--snapshotter", snapshotter.kind])) for number in range(2)]
    for number, process in enumerate(started):
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out) == (0, b"%d\n" % number), err


@each(*KINDS)
def test_two_in_one_pod(engine, name, snapshotter):
    """A drive goes with its container, while the VM runs on."""
    def annotated(kind):
        return ["--annotation", f"{CRI}.container-type={kind}",
                "--annotation", f"{CRI}.sandbox-id={name}"]
    with engine.detached(name, *SLEEP, options=annotated("sandbox")):
        for turn in range(2):
            names = [f"{name}-{number}-{turn}" for number in range(2)]
            for one in names:
                engine(*engine.words(one, *SLEEP, options=[
                    "-d", "--snapshotter", snapshotter.kind, *annotated("container")])).ok()
            assert len(engine.named("qemu-system")) >= 1
            for one in names:
                engine.exec(one, "ls", "/bin/busybox").ok()
            for one in names:
                engine("task", "kill", "-s", "SIGKILL", one).ok()
                eventually(lambda: engine.status(one) == "STOPPED", what="its end")
                assert engine.reap(one) == 137
                assert is_released(snapshotter.image(one))
                engine("container", "rm", one).ok()


@each(*KINDS)
def test_damaged_file_system(engine, name, snapshotter):
    engine("container", "create", *engine.chosen, "--snapshotter", snapshotter.kind,
           IMAGE, name, "true").ok()
    with open(snapshotter.image(name), "r+b") as file:
        file.write(bytes(1 << 20))
    told = engine("task", "start", name)
    assert told.code == 1 and len(told.error.strip().splitlines()) == 1, str(told)
    kind = "erofs" if snapshotter.kind == "packed" else "ext4"
    source = "/dev/loop" if snapshotter.kind == "loop" else str(snapshotter.image(name))
    assert f"rootfs: {source}" in told.error and f" as {kind}: " in told.error, str(told)
    assert "Invalid argument" in told.error, str(told)
    assert is_released(snapshotter.image(name))
    engine("container", "rm", name).ok()


@each("file")
def test_files_as_with_runc(engine, name, layer, snapshotter, tmp_path):
    """What test/integration/test_files.py asks of shared files."""
    if not shutil.which("gcc"):
        pytest.skip("gcc is missing")
    rootfs = images.unpack(layer, tmp_path / "rootfs")
    probe = files.build(rootfs / "bin" / "probe")
    told = engine.run(name, "probe", "/work", options=[
        "--snapshotter", snapshotter.kind, "--cap-add", "CAP_SYS_ADMIN", "--cap-add", "CAP_LEASE",
        "--mount", f"type=bind,src={probe},dst=/bin/probe,options=rbind:ro"], timeout=300).ok()
    reference = files.runc(files.spec("probe /work"), rootfs, tmp_path)
    files.compare("drive root", files.parse(reference), files.parse(told.text))


@each("file")
def test_image_that_is_not_there(engine, name, snapshotter):
    engine("container", "create", *engine.chosen, "--snapshotter", snapshotter.kind,
           IMAGE, name, "true").ok()
    image = snapshotter.image(name)
    kept = image.rename(f"{image}.away")
    told = engine("task", "start", name)
    kept.rename(image)
    assert told.code == 1 and str(image) in told.error, str(told)
    engine("container", "rm", name).ok()
