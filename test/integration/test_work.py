"""What people do in containers all day, over shared files: install packages, clone, compile."""

import hashlib
import shutil
import subprocess

import pytest
from conftest import CACHE, mirror
from host import Host

PACKAGES = ("hello", "less", "patch")
PATIENCE = 300  # under emulation
SOURCES = 2
MAKEFILE = """all: program
objects = main.o %s
program: $(objects)
\tg++ -o $@ $(objects)
%%.o: %%.cc part.h
\tg++ -Wall -c -o $@ $<
""" % " ".join(f"part{number}.o" for number in range(SOURCES))
PART = """#include "part.h"
std::string Part%d() { return std::string("%d"); }
"""
MAIN = """#include "part.h"
#include <cstdio>
int main() { std::puts((%s).c_str()); }
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A folder of packages from the machine's mirror, as apt reads it."""
    kept = CACHE / "packages"
    folder = tmp_path_factory.mktemp("repository")
    if len(list(kept.glob("*.deb"))) != len(PACKAGES):
        if not mirror():
            pytest.skip("this machine has no mirror of bookworm")
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        got = subprocess.run(["apt-get", "download", *PACKAGES], cwd=kept, capture_output=True,
                             text=True, timeout=120, check=False)
        if got.returncode != 0:
            pytest.skip("apt-get download failed: " + got.stderr[-300:])
    index = []
    for path in sorted(kept.glob("*.deb")):
        data = shutil.copy(path, folder) and path.read_bytes()
        fields = subprocess.run(["dpkg-deb", "--field", str(path)], check=True, timeout=30,
                                capture_output=True, text=True).stdout.strip()
        index.append(f"{fields}\nFilename: ./{path.name}\nSize: {len(data)}\n"
                     f"SHA256: {hashlib.sha256(data).hexdigest()}\n")
    (folder / "Packages").write_text("\n".join(index))
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A repository of a program in several files."""
    folder = tmp_path_factory.mktemp("project")
    parts = range(SOURCES)
    files = {"Makefile": MAKEFILE,
             "part.h": "#include <string>\n" + "".join(f"std::string Part{n}();\n" for n in parts),
             "main.cc": MAIN % " + ".join(f"Part{n}()" for n in parts),
             **{f"part{n}.cc": PART % (n, n) for n in parts}}
    for name, text in files.items():
        (folder / name).write_text(text)
    for words in (["init", "-q"], ["add", "."],
                  ["-c", "user.name=x", "-c", "user.email=x@x", "commit", "-q", "-m", "All of it"]):
        subprocess.run(["git", *words], cwd=folder, check=True, timeout=30)
    return folder


@pytest.fixture(scope="module")
def machine(request):
    made = Host(sharing={"transport": request.param}, vcpus=2)
    yield made
    made.close()


@pytest.mark.parametrize("machine", ["virtiofs", "9p"], indirect=True)
def test_install(machine, debian, repository):
    told = machine.shell(debian, """set -e
        echo 'deb [trusted=yes] file:/repository ./' > /etc/apt/sources.list
        apt-get -qq update
        apt-get -qq -y install --no-install-recommends hello less patch > /dev/null
        hello; dpkg -l hello less patch | grep -c ^ii; dpkg --verify hello less patch && echo whole
        apt-get -qq -y purge hello > /dev/null; test ! -e /usr/bin/hello && echo gone
        """, "-v", f"{repository}:/repository:ro", "-e", "DEBIAN_FRONTEND=noninteractive",
                         timeout=PATIENCE).ok()
    assert told.lines == ["Hello, world!", "3", "whole", "gone"], str(told)


@pytest.mark.parametrize("machine", ["virtiofs"], indirect=True)  # 9p: so, too, in twice the time
def test_clone_and_compile(machine, workshop, project):
    told = machine.shell(workshop, """set -e
        git config --global --add safe.directory '*'
        git clone -q /project/.git /work; cd /work
        make -s -j2 && ./program
        git status --porcelain | sort | head -n 3; touch part1.cc; make | grep -c '^g++'
        git fsck 2>&1 | grep -c error || true""", "-v", f"{project}:/project:ro",
                         timeout=PATIENCE).ok()
    assert told.lines == ["01", "?? main.o", "?? part0.o", "?? part1.o", "2", "0"], str(told)
