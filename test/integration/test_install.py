"""`make install` and `make uninstall`: what they put where, take away, and leave alone.

Everything happens below a DESTDIR of the test's own.
"""

import os
import re
import subprocess

import pytest
from host import ACCEL, PATIENCE, ROOT

PROGRAMS = {"bin/bulkhead", "bin/containerd-shim-bulkhead-v2"}
DATA = {"share/bulkhead/vmlinux", "share/bulkhead/guest.img"}
DOCUMENTS = {f"share/doc/bulkhead/{name}" for name in (
    "README.md", "LICENSE", "cli.md", "compatibility.md", "configuration.md", "containerd.md",
    "networking.md", "spec-coverage.md", "storage.md", "config.toml.example")}
CONFIG = "bulkhead/config.toml"
# Where a prefix has its configuration.
SYSCONFDIR = {"/usr": "/etc", "/usr/local": "/usr/local/etc", "/opt/a b": "/opt/a b/etc"}
# The installed tree over the machine's own, and the source tree with its build out of sight.
IN_PLACE = """set -e
stage=$1 source=$2; shift 2
mount --make-rprivate /
for folder in usr etc; do
  mount -t overlay -o "lowerdir=$stage/$folder:/$folder" installed "/$folder"
done
mount -t tmpfs none "$source"
exec "$@"
"""

pytestmark = pytest.mark.skipif(
    not (ROOT / "build/release/build.ninja").exists(), reason="nothing was built here")


class Stage:
    """A DESTDIR."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()

    def make(self, target, prefix="/usr/local", **settings):
        # A make that runs the tests tells its children its own flags and variables.
        told = subprocess.run(
            ["make", "-C", ROOT, target, f"DESTDIR={self.folder}", f"PREFIX={prefix}",
             *(f"{key}={value}" for key, value in settings.items())],
            env={key: value for key, value in os.environ.items() if "MAKE" not in key},
            capture_output=True, text=True, timeout=10 * PATIENCE, check=False)
        assert told.returncode == 0, told.stdout + told.stderr
        return told.stdout

    def file(self, path):
        return self.folder / path.lstrip("/")

    def files(self):
        return {"/" + str(path.relative_to(self.folder))
                for path in self.folder.rglob("*") if not path.is_dir()}


def expected(prefix):
    return {f"{prefix}/{name}" for name in PROGRAMS | DATA | DOCUMENTS} | \
        {f"{SYSCONFDIR[prefix]}/{CONFIG}"}


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path / "stage")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A tree of PREFIX=/usr that no test changes."""
    made = Stage(tmp_path_factory.mktemp("install") / "stage")
    made.make("install", "/usr")
    return made


@pytest.mark.parametrize("prefix", sorted(SYSCONFDIR))
def test_there_and_back(stage, prefix):
    stage.make("install", prefix)
    assert stage.files() == expected(prefix)
    for name in PROGRAMS | DATA | DOCUMENTS:
        mode = stage.file(f"{prefix}/{name}").stat().st_mode & 0o7777
        assert mode == (0o755 if name in PROGRAMS else 0o644), name
    stage.make("uninstall", prefix)
    assert stage.files() == set()
    # Folders that are Bulkhead's alone go with it.
    assert not [path for path in stage.folder.rglob("*") if path.name == "bulkhead"]


def test_edited_configuration(stage):
    """Neither a second installation nor the uninstallation touches it."""
    stage.make("install")
    config = stage.file(f"/usr/local/etc/{CONFIG}")
    edited = config.read_text() + "[hypervisor]\nvcpus = 2\n"
    config.write_text(edited)
    stage.make("install")
    assert config.read_text() == edited
    told = stage.make("uninstall")
    assert f"kept {config}" in told, told
    assert stage.files() == {f"/usr/local/etc/{CONFIG}"} and config.read_text() == edited
    stage.make("uninstall")  # once more is no error


def test_files_of_others(stage):
    """What an installation did not bring stays where it is."""
    stage.make("install")
    others = {"/usr/local/bin/other", "/usr/local/share/bulkhead/other.img",
              f"/usr/local/etc/{CONFIG}.orig"}
    for path in others:
        stage.file(path).write_text("another's\n")
    stage.make("uninstall")
    assert stage.files() == others


def test_configuration_elsewhere(stage):
    stage.make("install", SYSCONFDIR="/srv/etc")
    assert f"/srv/etc/{CONFIG}" in stage.files()
    assert f"/usr/local/etc/{CONFIG}" not in stage.files()
    stage.make("uninstall", SYSCONFDIR="/srv/etc")
    assert stage.files() == set()


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_program_stands_alone(installed, name):
    """No library, no interpreter, nothing that names the place where it was built."""
    path = installed.file(f"/usr/{name}")
    headers = subprocess.run(["readelf", "--wide", "--program-headers", path], check=True,
                             capture_output=True, text=True, timeout=PATIENCE).stdout
    assert re.search(r"^\s+LOAD ", headers, re.MULTILINE), headers
    assert not re.search(r"^\s+(INTERP|DYNAMIC) ", headers, re.MULTILINE), headers
    assert os.fsencode(str(ROOT)) not in path.read_bytes()


def test_run_of_what_is_installed(stage, host, busybox):
    """In its place below /usr, with its own kernel and image, configured in /etc."""
    stage.make("install", "/usr")
    config = stage.file(f"/etc/{CONFIG}")
    text = config.read_text()
    for key, value in (("accel", ACCEL), ("state", host.state), ("data", host.data)):
        text, count = re.subn(f"^#{key} = .*", f'{key} = "{value}"', text, flags=re.MULTILINE)
        assert count == 1, key
    config.write_text(text)
    del host.environment["BULKHEAD_CONFIG"]
    told = subprocess.run(
        ["unshare", "--mount", "sh", "-c", IN_PLACE, "sh", stage.folder, ROOT,
         "bulkhead", "run", "--rm", busybox, "echo", "hello"],
        env={**host.environment, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, cwd="/",
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (told.returncode, told.stdout, told.stderr) == (0, "hello\n", ""), told
    assert (host.data / "layers").is_dir(), "the configuration in /etc was not read"
