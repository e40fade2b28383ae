"""Fixtures. See host.py for the command and images.py for what it runs."""

import os
import subprocess

import host as host_module
import images
import pytest

CACHE = host_module.ROOT / "build/test-cache"


def pytest_configure():
    host_module.adopt_orphans()


def pytest_collection_modifyitems(items):
    if not os.path.exists(host_module.PROGRAM):
        pytest.exit(f"{host_module.PROGRAM} is missing: run make dist", returncode=2)
    if os.geteuid() != 0:
        pytest.exit("the integration tests need root", returncode=2)
    # What is quick and basic first.
    order = ["test_command_line", "test_run", "test_exec", "test_image"]
    items.sort(key=lambda item: order.index(item.module.__name__)
               if item.module.__name__ in order else len(order))


@pytest.fixture
def host():
    """A fresh command for one test, which must leave nothing behind."""
    fresh = host_module.Host()
    yield fresh
    fresh.close()


@pytest.fixture(scope="session")
def shared():
    """A command for tests that share unpacked layers and running containers."""
    made = host_module.Host()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def no_new_processes(request):
    """No test may leave a process, not even one that shares a container with others."""
    for name in ("box", "shared"):  # session fixtures come first; make sure of it
        if name in request.fixturenames:
            request.getfixturevalue(name)
    before = {process.key for process in host_module.descendants()}
    pods = None
    if "shared" in request.fixturenames:
        made = request.getfixturevalue("shared")
        pods = sorted(os.listdir(made.state / "pods")) if (made.state / "pods").is_dir() else []
    yield
    if "host" in request.fixturenames:
        return  # checked when it is closed, after this
    host_module.eventually(
        lambda: not [p for p in host_module.descendants() if p.key not in before], 10,
        f"the end of {[p for p in host_module.descendants() if p.key not in before]}")
    if pods is not None and (made.state / "pods").is_dir():
        assert sorted(os.listdir(made.state / "pods")) == pods


@pytest.fixture(scope="session")
def busybox_layer():
    return images.busybox_layer()


@pytest.fixture(scope="session")
def busybox(tmp_path_factory, busybox_layer):
    """The path of a `docker save` archive of busybox."""
    return images.docker_save(tmp_path_factory.mktemp("image") / "busybox.tar", [busybox_layer])


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory, busybox_layer):
    """The path of a root file system folder with busybox."""
    return images.unpack(busybox_layer, tmp_path_factory.mktemp("rootfs") / "busybox")


@pytest.fixture(scope="session")
def box(shared, busybox):
    """The name of a container that runs for the whole session."""
    shared("run", "-d", "--name", "box", "--init", busybox, "sleep", "100000").ok()
    yield "box"
    shared("rm", "-f", "box").ok()


@pytest.fixture(scope="session")
def debian():
    """A Debian root file system folder, made once by debootstrap."""
    return bootstrapped("debian-bookworm", "perl-base")


@pytest.fixture(scope="session")
def workshop():
    """The same with what programs are made with."""
    return bootstrapped("debian-workshop", "g++,make,git")


def bootstrapped(name, packages):
    folder = CACHE / name
    done = CACHE / f"{name}.done"
    if not done.exists():
        subprocess.run(["rm", "-rf", str(folder)], check=True, timeout=60)
        CACHE.mkdir(parents=True, exist_ok=True)
        made = subprocess.run(
            ["debootstrap", "--variant=minbase", "--include=" + packages, "bookworm",
             str(folder), *mirror()], capture_output=True, text=True, timeout=900, check=False)
        if made.returncode != 0:
            pytest.skip("debootstrap failed: " + (made.stdout + made.stderr)[-300:])
        for leftover in [*folder.glob("var/cache/apt/archives/*.deb"),
                         *folder.glob("var/lib/apt/lists/*_*")]:
            leftover.unlink()
        done.touch()
    return folder


def mirror():
    """The mirror that this machine's apt uses."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Codename: bookworm",
         "Created-By: Packages"], capture_output=True, text=True, timeout=60, check=False)
    return [line.rstrip("/") for line in listed.stdout.splitlines() if "security" not in line][:1]
