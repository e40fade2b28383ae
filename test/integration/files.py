"""What a file system does in a container, beside what it does with runc.

The programs in probe/ say one line for each check: `rename-over: rename=ok open=old ...`. The facts
that differ from runc's must be in the table of docs/storage.md, and what is in it must differ.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess

import images
import oci
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "storage.md"
SOURCES = pathlib.Path(__file__).resolve().parent / "probe"
PLACES = [f"{share} {where}" for share in ("virtiofs", "9p") for where in ("root", "volume")]
PLACES.append("drive root")
TRANSPORTS = ["virtiofs", "virtiofs-rust", "9p"]
COLUMNS = ["check", "fact", "where", "runc", "here", "reason"]
CAPABILITIES = ("CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SYS_ADMIN MKNOD "
                "LEASE SETFCAP").split()
DEVICES = {"devices": [{"allow": True, "access": "rwm"}]}


def probed(folder):
    """A root file system with the probe, below the folder."""
    if not shutil.which("gcc"):
        pytest.skip("gcc is missing")
    rootfs = images.unpack(images.busybox_layer(), folder / "rootfs")
    build(rootfs / "bin" / "probe")
    return rootfs


def build(path):
    """The probe as a static program."""
    subprocess.run(["gcc", "-std=gnu11", "-D_GNU_SOURCE", "-static", "-O1", "-Wall", "-Wextra",
                    "-Wno-unused-result", "-o", str(path), *map(str, SOURCES.glob("*.c"))],
                   check=True, timeout=120)
    return path


def rust_virtiofsd():
    """The path of the one in Rust, or None; Debian 12 has QEMU's own in C."""
    for path in (os.environ.get("BULKHEAD_TEST_VIRTIOFSD"), "build/virtiofsd/bin/virtiofsd",
                 "/usr/libexec/virtiofsd", "/usr/lib/virtiofsd", "/usr/lib/qemu/virtiofsd"):
        if path and os.access(ROOT / path, os.X_OK):
            told = subprocess.run([ROOT / path, "--help"], capture_output=True, text=True,
                                  timeout=30, check=False)
            if "--shared-dir" in told.stdout + told.stderr:
                return str(ROOT / path)
    return None


def sharing(transport):
    """Its section of the configuration."""
    if transport != "virtiofs-rust":
        return {"transport": transport}
    program = rust_virtiofsd()
    if not program:
        pytest.skip("no virtiofsd in Rust is installed: see CONTRIBUTING.md")
    return {"transport": "virtiofs", "virtiofsd": program}


@contextlib.contextmanager
def overlay(lower, folder):
    """A root file system as an engine makes it."""
    upper, work, merged = (pathlib.Path(folder) / name for name in ("upper", "work", "merged"))
    for path in (upper, work, merged):
        path.mkdir(parents=True)
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o",
                    f"lowerdir={lower},upperdir={upper},workdir={work}", str(merged)],
                   check=True, timeout=30)
    try:
        yield merged
    finally:
        subprocess.run(["umount", "-l", str(merged)], check=True, timeout=30)


def spec(command, volumes=None):
    """A container with root's power, and folders of the host: {place: folder}."""
    made = oci.spec(command, linux={"resources": DEVICES})
    made["process"]["capabilities"] = {kind: ["CAP_" + name for name in CAPABILITIES]
                                       for kind in ("bounding", "effective", "permitted")}
    made["mounts"] += [{"destination": place, "type": "bind", "source": str(folder),
                        "options": ["rbind", "rw"]} for place, folder in (volumes or {}).items()]
    return made


def runc(document, rootfs, folder):
    """What the container prints below runc."""
    name = f"bulkhead-test-{os.getpid()}"
    document["root"]["path"] = str(rootfs)
    document["linux"]["cgroupsPath"] = f"/{name}"
    (folder / "config.json").write_text(json.dumps(document))
    told = subprocess.run(["runc", "--root", str(folder / "runc"), "run", "--bundle", str(folder),
                           name], capture_output=True, text=True, timeout=300, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    return told.stdout


def parse(text):
    """{(check, fact): value} of the probe's lines. A value without a name has a number's, and the
    second of a name is `name-2`.
    """
    found = {}
    for line in text.splitlines():
        check, words = line.split(":", 1)
        for number, word in enumerate(words.split()):
            fact, _, value = word.rpartition("=")
            fact, times = fact or str(number), 1
            while (key := (check, fact if times == 1 else f"{fact}-{times}")) in found:
                times += 1
            found[key] = value
    return found


class Difference:
    """A row of the table."""

    def __init__(self, cells):
        self.check, self.fact, where, self.runc, self.here, self.reason = cells
        self.where = PLACES if where == "all" else [
            place for one in where.split(", ") for place in PLACES if place.startswith(one)]

    def __str__(self):
        return f"{self.check}, {self.fact}, {', '.join(self.where)}"


def table():
    """The rows of docs/storage.md below the headline with our columns."""
    rows, inside = [], False
    for number, line in enumerate(DOCUMENT.read_text().splitlines(), 1):
        cells = [cell.strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not cells:
            inside = False
        elif cells == COLUMNS:
            inside = True
        elif inside and set("".join(cells)) - set("-: "):
            assert len(cells) == len(COLUMNS) and all(cells), f"{DOCUMENT}:{number}: {line}"
            rows.append(Difference(cells))
    return rows


def compare(where, reference, found):
    """Fails unless the differences are exactly those of the table."""
    rows = [row for row in table() if where in row.where]
    known = {row.check for row in rows}
    wrong = []
    for key in {**reference, **found}:
        runc, here = reference.get(key, "-"), found.get(key, "-")
        row = next((row for row in rows if (row.check, row.fact) == key), None)
        if row:
            rows.remove(row)
            if (row.runc, row.here) != (runc, here):
                wrong.append(f"{row}: `{runc}` with runc and `{here}` here")
        elif runc != here and not ("-" in (runc, here) and key[0] in known):
            # What a check that ends early does not tell is not told apart.
            wrong.append("not in the table: | {} | {} | {} | `{}` | `{}` |".format(
                *key, where, runc, here))
    wrong += [f"nothing is told about {row}" for row in rows]
    assert not wrong, f"{where}, {DOCUMENT.name}:\n  " + "\n  ".join(wrong)
