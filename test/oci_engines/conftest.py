"""Fixtures: each test runs with each engine and each runtime; see README.md."""

import itertools
import os
import pathlib
import shutil
import sys

import pytest

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path += [str(TESTS / "integration"), str(TESTS / "engines")]

import comparison  # noqa: E402
import host  # noqa: E402
import images  # noqa: E402
import table  # noqa: E402
import tools  # noqa: E402
from dockerd import DAEMONS, Docker, DockerShim  # noqa: E402
from engine import ALICE, IMAGE, RUNTIMES  # noqa: E402
from podman import Buildah, Podman  # noqa: E402

ENGINES = {engine.name: engine for engine in (Docker, DockerShim, Podman, Buildah)
           if engine is not DockerShim or DAEMONS}
PROGRAMS = ["dockerd", "docker", "docker-proxy", "containerd", "podman", "buildah", "conmon",
            "runc"]
NUMBERS = itertools.count()
RESULTS = pytest.StashKey()


def pytest_addoption(parser):
    parser.addoption("--runtime-name", default="both", choices=["both", *RUNTIMES],
                     help="runc is the reference for bulkhead; alone it proves the tests")
    parser.addoption("--engine", action="append", choices=list(ENGINES), help="only this one")


def pytest_configure(config):
    config.addinivalue_line("markers", "engines(names): other ones than Docker and Podman")
    config.stash[RESULTS] = table.Table()
    host.adopt_orphans()


def pytest_generate_tests(metafunc):
    if "engine" not in metafunc.fixturenames:
        return
    only = metafunc.definition.get_closest_marker("engines")
    names = only.args if only else ("docker", "podman")
    names = [name for name in ENGINES if name.partition("-")[0] in names]
    chosen = metafunc.config.getoption("--runtime-name")
    runtimes = [name for name in RUNTIMES if chosen in ("both", name)]
    metafunc.parametrize(("engine", "runtime"), itertools.product(names, runtimes),
                         indirect=["engine"])


def pytest_collection_modifyitems(config, items):
    missing = [name for name in (*PROGRAMS, host.PROGRAM) if not shutil.which(name)]
    if missing:
        pytest.exit(f"missing: {' '.join(missing)}; run make deps dist", returncode=2)
    if os.geteuid() != 0:
        pytest.exit("the engines' tests need root", returncode=2)
    wanted = [None, *(config.getoption("--engine") or ENGINES)]
    config.hook.pytest_deselected(items=[item for item in items if engine_of(item) not in wanted])
    # One engine after the other: whose a process is could not be told apart.
    items[:] = sorted((item for item in items if engine_of(item) in wanted),
                      key=lambda item: [None, *ENGINES].index(engine_of(item)))


def engine_of(item):
    """Its name, or None for a test of the tests."""
    return item.callspec.params["engine"] if hasattr(item, "callspec") else None


def runtime_of(item):
    return item.callspec.params["runtime"] if hasattr(item, "callspec") else None


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    report = (yield).get_result()
    running = item.funcargs.get("engine")
    if report.failed and running:
        report.sections.append(("commands", "\n".join(running.history[-12:])))
    if engine_of(item):
        item.config.stash[RESULTS].add(item.originalname, engine_of(item), runtime_of(item),
                                       report, item.stash.get(DIFFERS, False))


def pytest_terminal_summary(terminalreporter, config):
    text = config.stash[RESULTS].text()
    if text:
        terminalreporter.write("\n" + text)
        folder = host.ROOT / "build/test-results"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "oci-engines.md").write_text(text)


DIFFERS = pytest.StashKey()


# ---- engines
@pytest.fixture(scope="session")
def engines(tmp_path_factory):
    """Makes an engine when it is asked for, and ends it when the next one is."""
    folder = tmp_path_factory.mktemp("images")
    layers = [images.busybox_layer(), tools.layer()]
    archives = [images.docker_save(folder / "busybox.tar", layers, tag=IMAGE),
                images.docker_save(folder / "alice.tar", layers, {"User": "alice"}, tag=ALICE)]
    running = {}

    def engine(name):
        if name not in running:
            end()
            running[name] = None
            running[name] = ENGINES[name](archives)
        return running[name] or pytest.fail(f"{name} did not start", pytrace=False)

    def end():
        while running:
            _, ended = running.popitem()
            if ended:
                ended.close()

    yield engine
    end()


@pytest.fixture
def engine(request, engines, runtime):
    chosen = engines(request.param)
    chosen.runtime = runtime
    chosen.history.clear()
    return chosen


@pytest.fixture(scope="session")
def boxes():
    return {}


@pytest.fixture
def box(engine, boxes):
    """A container of this engine and runtime that runs for the whole session."""
    key = engine.name, engine.runtime
    if key not in boxes:
        boxes[key] = f"box-{engine.runtime}"
        engine.known = None
        engine("run", "-d", "--name", boxes[key], IMAGE, "sleep", "100000").ok()
    return boxes[key]


@pytest.fixture
def name():
    """A name for a container that no other test uses."""
    return f"t{next(NUMBERS)}"


# ---- what every test is held to
@pytest.fixture(scope="session")
def reference():
    """What runc did, by case and fact."""
    return {}


@pytest.fixture(scope="session")
def meant():
    return comparison.read(comparison.DOCUMENT.read_text())


@pytest.fixture
def same(request, engine, runtime, reference, meant):
    """Compares facts of the runtimes: `same("what", value, what runc should give)`."""
    case = request.node.nodeid.replace(f"{engine.name}-{runtime}", engine.name)
    compare = comparison.Comparison(engine.name, runtime, request.node.originalname, case,
                                    reference, meant)
    if runtime != "runc" and compare.whole():
        request.applymarker(pytest.mark.xfail(reason=compare.whole().reason, strict=True))
        request.node.stash[DIFFERS] = True
    yield compare
    request.node.stash[DIFFERS] = request.node.stash.get(DIFFERS, False) or bool(compare.used)
    if runtime != "runc" and not compare.whole():
        compare.check()


@pytest.fixture(autouse=True)
def nothing_left(request, boxes):
    """No test may leave a process, mount, control group, link, file or object of a container."""
    if "engine" not in request.fixturenames:
        yield
        return
    if "box" in request.fixturenames:  # what lives longer comes first
        request.getfixturevalue("box")
    engine = request.getfixturevalue("engine")
    if engine.known is None:
        engine.known = set(engine.left_over())
    yield
    try:
        host.eventually(lambda: not set(engine.left_over()) - engine.known, 20, "a clean host")
    except AssertionError:
        left = sorted(set(engine.left_over()) - engine.known)
        for key in [key for key in boxes if key[0] == engine.name]:
            del boxes[key]
        engine.sweep()
        engine.known = None
        raise AssertionError("left behind:\n  " + "\n  ".join(left)) from None
