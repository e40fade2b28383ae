"""Fixtures. See containerd.py for the engine and cri.py for the kubelet's side of it."""

import itertools
import os
import pathlib
import shutil
import sys

import pytest

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

import host  # noqa: E402
import images  # noqa: E402
from containerd import ALICE, FILTERS, IMAGE, PAUSE, SHIMS, Containerd  # noqa: E402
from cri import Cri  # noqa: E402

NUMBERS = itertools.count()
PACKET_FILTERS = ["/usr/sbin/iptables-legacy", "/usr/sbin/iptables-nft", "/usr/sbin/nft",
                  *pathlib.Path("/usr/lib").glob("*/xtables/*.so")]
PAUSE_COMMAND = ["sh", "-c", "trap 'exit 0' TERM INT; while :; do sleep 100000 & wait; done"]


def pytest_addoption(parser):
    parser.addoption("--runtime-name", default="bulkhead", choices=list(SHIMS),
                     help="the runtime below containerd; runc proves the tests themselves")
    parser.addoption("--containerd-bin", type=pathlib.Path, metavar="DIR",
                     help="the folder of another containerd (1.x, 2.x), ctr and runc's shim")


def pytest_configure(config):
    config.addinivalue_line("markers", "vm_only: about our shim and its VMs; skipped below runc's")
    config.addinivalue_line("markers", "own_shim(why): not so with bulkhead's command line")
    host.adopt_orphans()


def pytest_collection_modifyitems(config, items):
    name = config.getoption("--runtime-name")
    shim = f"containerd-shim-{SHIMS[name]}-v2"
    other = config.getoption("--containerd-bin")
    paths = dict.fromkeys((shim, "containerd", "ctr"), other)
    if name == "bulkhead":
        paths[shim] = os.path.dirname(host.PROGRAM)
    for program, path in paths.items():
        if not shutil.which(program, path=path):
            where = f" from {path}" if path else ""
            pytest.exit(f"{program} is missing{where}: run make deps dist", returncode=2)
    if os.geteuid() != 0:
        pytest.exit("the engines' tests need root", returncode=2)
    for item in items:
        if SHIMS[name] == "runc" and item.get_closest_marker("vm_only"):
            item.add_marker(pytest.mark.skip(reason="about our shim and its VMs"))
        own = item.get_closest_marker("own_shim")
        if name == "bulkhead-oci" and own:
            item.add_marker(pytest.mark.skip(reason=own.args[0]))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    report = (yield).get_result()
    running = item.funcargs.get("engine")
    if report.failed and running and running.log.exists():
        report.sections.append(("containerd's log", "\n".join(
            running.log_since(item.stash.get(LOG_SIZE, 0)).splitlines()[-60:])))


LOG_SIZE = pytest.StashKey()


@pytest.fixture(scope="session")
def layer():
    return images.busybox_layer()


@pytest.fixture(scope="session")
def engine(request, tmp_path_factory, layer):
    """The containerd of the session."""
    folder = tmp_path_factory.mktemp("images")
    archives = [images.docker_save(folder / "busybox.tar", [layer], tag=IMAGE),
                images.docker_save(folder / "alice.tar", [layer], {"User": "alice"}, tag=ALICE),
                images.docker_save(folder / "filters.tar",
                                   [layer, images.programs_layer(PACKET_FILTERS)], tag=FILTERS),
                images.docker_save(folder / "pause.tar", [layer], {"Cmd": PAUSE_COMMAND},
                                   tag=PAUSE)]
    made = Containerd(request.config.getoption("--runtime-name"), archives,
                      request.config.getoption("--containerd-bin"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def cri(engine):
    return Cri(engine.socket)


@pytest.fixture(scope="session")
def box(engine):
    """The name of a container that runs for the whole session."""
    with engine.detached("box", "sleep", "100000") as name:
        yield name


@pytest.fixture
def name():
    """A name for a container that no other test uses."""
    return f"t{next(NUMBERS)}"


@pytest.fixture(autouse=True)
def nothing_left(request, engine, cri):
    """No test may leave a process, mount, socket, control group, link or file of a container."""
    for shared in ("box", "app"):  # what lives longer comes first
        if shared in request.fixturenames:
            request.getfixturevalue(shared)
    request.node.stash[LOG_SIZE] = engine.log.stat().st_size
    before = set(engine.left_over())
    yield
    try:
        host.eventually(lambda: not set(engine.left_over()) - before, 20, "a clean host")
    except AssertionError:
        left = sorted(set(engine.left_over()) - before)
        if not {"box", "app"} & set(request.fixturenames):
            cri.sweep()
            engine.sweep()
        raise AssertionError("left behind:\n  " + "\n  ".join(left)) from None
