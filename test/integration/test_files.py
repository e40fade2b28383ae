"""Files that are shared with the guest: by each transport, beside runc. See files.py."""

import os
import shutil

import files
import oci
import pytest
from host import Host

SCRIPT = "probe /work; echo ==; probe /volume '!large-folder'"


@pytest.fixture(scope="module")
def probed(tmp_path_factory):
    """A root file system with the probe."""
    return files.probed(tmp_path_factory.mktemp("probed"))


@pytest.fixture
def place(probed, tmp_path):
    """(an overlay as an engine mounts it, a folder to share)"""
    volume = tmp_path / "volume"
    volume.mkdir()
    with files.overlay(probed, tmp_path) as merged:
        yield merged, volume


def parts(text):
    root, volume = text.split("==\n")
    return {"root": files.parse(root), "volume": files.parse(volume)}


@pytest.fixture(scope="module")
def reference(probed, tmp_path_factory):
    """What it says with runc."""
    if not shutil.which("runc"):
        pytest.skip("runc is missing")
    folder = tmp_path_factory.mktemp("runc")
    (folder / "volume").mkdir()
    with files.overlay(probed, folder) as merged:
        document = files.spec(SCRIPT, {"/volume": folder / "volume"})
        return parts(files.runc(document, merged, folder))


def run(host, rootfs, document):
    engine = oci.Engine(host, rootfs)
    try:
        box = engine.create("box", document).start()
        out, err = box.output()
        assert os.WEXITSTATUS(box.wait()) == 0, err
        return out.decode()
    finally:
        engine.close()


@pytest.mark.parametrize("transport", files.TRANSPORTS)
def test_as_with_runc(reference, place, transport):
    rootfs, volume = place
    host = Host(sharing=files.sharing(transport))
    try:
        found = parts(run(host, rootfs, files.spec(SCRIPT, {"/volume": volume})))
    finally:
        host.close()
    for where in ("root", "volume"):
        files.compare(f"{transport.removesuffix('-rust')} {where}", reference[where], found[where])
