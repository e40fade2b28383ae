"""Huge pages in a container: a hugetlbfs of the host, one of config.json, memory of its own."""

import contextlib
import pathlib
import shutil
import subprocess

import host as host_module
import images
import oci
import pytest

HERE = pathlib.Path(__file__).resolve().parent
MIB = 1 << 20
PAGE = 2 * MIB
SLEEP = ["sleep", "100000"]
OUR_OWN = {"destination": "/hugepages", "type": "hugetlbfs", "source": "hugetlbfs",
           "options": ["nosuid", "nodev", "pagesize=2M"]}


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory, busybox_layer):
    """The usual one with huge_probe.c, compiled."""
    if not shutil.which("gcc"):
        pytest.skip("gcc is missing")
    made = images.unpack(busybox_layer, tmp_path_factory.mktemp("huge") / "rootfs")
    subprocess.run(["gcc", "-O1", "-static", "-o", str(made / "bin/huge_probe"),
                    str(HERE / "huge_probe.c")], check=True, timeout=host_module.PATIENCE)
    return made


@pytest.fixture
def engine(host, rootfs):
    made = oci.Engine(host, rootfs)
    yield made
    made.close()


@contextlib.contextmanager
def hugetlbfs(path, options):
    """As a kubelet mounts one for a volume; the host needs no huge page for it."""
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "hugetlbfs", "-o", options, "none", str(path)],
                             capture_output=True, text=True, timeout=60, check=False)
    if mounted.returncode != 0:
        pytest.skip("no hugetlbfs can be mounted here: " + mounted.stderr)
    try:
        yield path
        assert list(path.iterdir()) == []  # what was written is in the guest
    finally:
        subprocess.run(["umount", str(path)], check=True, timeout=60)


def spec(mounts=(), limit=None, join=None):
    limits = {} if limit is None else {
        "hugepageLimits": [{"pageSize": "2MB", "limit": limit}, {"pageSize": "1GB", "limit": 0}]}
    document = oci.spec(SLEEP, linux={"resources": {"memory": {"limit": 64 * MIB}, **limits}})
    document["mounts"] += [*mounts, {"destination": "/sys/fs/cgroup", "type": "cgroup",
                                     "source": "cgroup", "options": ["ro"]}]
    if join:
        next(entry for entry in document["linux"]["namespaces"] if entry["type"] == "network")[
            "path"] = f"/proc/{join.pid}/ns/net"
    return document


def bind(path):
    return {"destination": "/hugepages", "type": "bind", "source": str(path),
            "options": ["rbind", "rprivate", "rw"]}


def told(box, *command):
    return box.engine("exec", box.name, *command).out.decode().strip()


def probe(box, file, bytes_, *word):
    return told(box, "huge_probe", file, bytes_, *word)


def pages(box):
    """How many the guest keeps."""
    return int(told(box, "awk", "/^HugePages_Total/ { print $2 }", "/proc/meminfo"))


def used(box):
    return int(told(box, "cat", "/sys/fs/cgroup/hugetlb.2MB.current"))


def test_a_hugetlbfs_of_the_host(engine, tmp_path):
    """Is one of the guest's, of the same page and size, for all that have it; limits keep pages."""
    with hugetlbfs(tmp_path / "volume", "pagesize=2M,size=16M,mode=1770,gid=5") as volume:
        one = engine.create("one", spec([bind(volume)], limit=12 * MIB)).start()
        assert pages(one) == 6
        mounted = told(one, "grep", " /hugepages ", "/proc/mounts").split()
        assert mounted[2] == "hugetlbfs" and {"pagesize=2M", "size=16M", "rw"} <= set(
            mounted[3].replace("16384K", "16M").replace("16777216", "16M").split(","))
        assert told(one, "stat", "-c", "%a %g", "/hugepages") == "1770 5"
        assert probe(one, "/hugepages/file", 8 * MIB, "first") == "first first"
        assert used(one) == 8 * MIB
        # Beyond what is kept for it there is nothing, nor beyond the volume's size.
        assert probe(one, "/hugepages/more", 6 * MIB, "x") == "mmap: ENOMEM"
        assert probe(one, "/hugepages/file", 18 * MIB) == "mmap: ENOMEM"

        two = engine.create("two", spec([bind(volume)], limit=4 * MIB, join=one)).start()
        assert pages(two) == 8
        assert probe(two, "/hugepages/file", 8 * MIB) == "first first"
        assert probe(two, "/hugepages/file", 2 * MIB, "second") == "second second"
        assert probe(one, "/hugepages/file", 8 * MIB) == "second first"
        # The pool has pages for it, its own limit has not.
        assert probe(two, "/hugepages/own", 6 * MIB, "x") in ("SIGBUS", "mmap: ENOMEM")
        told(two, "rm", "/hugepages/own")
        assert probe(two, "/hugepages/small", 4 * MIB, "y") == "y y"
        assert (used(one), used(two)) == (8 * MIB, 4 * MIB)
        two.delete("--force").ok()
        assert pages(one) == 6
        assert probe(one, "/hugepages/file", 8 * MIB) == "second first"
        one.delete("--force").ok()


def test_a_volume_with_a_size_and_no_limits(engine, tmp_path):
    """Its size is what is kept for it."""
    with hugetlbfs(tmp_path / "volume", "pagesize=2M,size=8M") as volume:
        box = engine.create("box", spec([bind(volume)])).start()
        assert pages(box) == 4
        assert probe(box, "/hugepages/file", 8 * MIB, "all") == "all all"
        # Pages without a volume are nobody's.
        assert probe(box, "-", 2 * MIB, "x") == "mmap: ENOMEM"
        box.delete("--force").ok()


def test_a_hugetlbfs_of_the_container(engine):
    box = engine.create("box", spec([OUR_OWN], limit=8 * MIB)).start()
    assert pages(box) == 4
    assert probe(box, "/hugepages/file", 6 * MIB, "here") == "here here"
    assert probe(box, "-", 2 * MIB, "memory") == "memory memory"
    assert probe(box, "-", 4 * MIB, "x") == "mmap: ENOMEM"
    assert used(box) == 6 * MIB
    other = engine.create("other", spec([OUR_OWN], limit=0, join=box)).start()
    assert pages(other) == 4
    assert probe(other, "/hugepages/file", 2 * MIB, "x") == "SIGBUS"  # limited to none
    for container in (other, box):
        container.delete("--force").ok()


def test_too_many(engine, tmp_path):
    """A container that joins a VM: how much that VM has is said."""
    box = engine.create("box", spec(limit=4 * MIB)).start()
    refused = oci.Container(engine, "bad", engine.bundle("bad", spec(limit=512 * MIB, join=box)))
    refused.create(succeeds=False)
    for word in ("hugepageLimits", "258 pages of 2048 kB", "MiB of memory"):
        assert word in engine.last_error(), engine.last_error()
    refused.close()
    assert pages(box) == 2
    with hugetlbfs(tmp_path / "volume", "pagesize=2M,size=1G") as volume:
        refused = oci.Container(engine, "bad", engine.bundle("bad", spec([bind(volume)], join=box)))
        refused.create(succeeds=False)
        assert refused.created == 1, engine.log.read_text()
        for word in (str(volume), "514 pages of 2048 kB", "MiB of memory"):
            assert word in engine.last_error(), engine.last_error()
        refused.close()
    box.delete("--force").ok()


def test_update(engine):
    box = engine.create("box", spec(limit=4 * MIB)).start()
    assert probe(box, "-", 6 * MIB, "x") == "mmap: ENOMEM"
    limits = b'{"hugepageLimits": [{"pageSize": "2MB", "limit": 8388608}]}'
    engine("update", "--resources", "-", "box", input=limits).ok()
    assert pages(box) == 4
    assert probe(box, "-", 6 * MIB, "more") == "more more"
    box.delete("--force").ok()
