"""Unit tests that need more of a kernel than hosts have: they run in a guest, whose kernel is ours and
has VLANs, ipvlan and all that traffic control and BPF need."""

import contextlib
import pathlib
import re

import images
import oci
import pytest

UNITS = pathlib.Path(__file__).parents[2] / "build/release/shim/network/network_test"
# busybox's have too few options.
TOOLS = ["/bin/sh", "/bin/bash", "/bin/grep", "/bin/sleep", "/bin/ip", "/sbin/tc"]
CAPABILITIES = [*oci.CAPABILITIES, "CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF",
                "CAP_SYS_RESOURCE", "CAP_NET_BIND_SERVICE", "CAP_PERFMON", "CAP_MKNOD"]
TUN = {"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200, "fileMode": 0o666,
       "uid": 0, "gid": 0}


@pytest.fixture
def tools(tmp_path):
    if not UNITS.exists():
        pytest.skip("the unit tests of shim/network are not built")
    for name in ("dev", "proc", "sys", "tmp"):
        (tmp_path / name).mkdir()
    return images.unpack(images.programs_layer([*TOOLS, UNITS]), tmp_path)


def test_network_units(host, tools):
    document = oci.spec([str(UNITS)], linux={
        "devices": [TUN],
        "resources": {"devices": [{"allow": False, "access": "rwm"},
                                  {"allow": True, "type": "c", "access": "rwm"}]}})
    document["process"]["capabilities"] = {kind: CAPABILITIES for kind in
                                           ("bounding", "effective", "permitted")}
    document["process"]["env"] = ["PATH=/bin:/sbin"]
    document["mounts"].append({"destination": "/sys", "type": "sysfs", "source": "sysfs"})
    with contextlib.closing(oci.Engine(host, tools)) as engine:
        run(engine.create("units", document))


def run(units):
    units.start()
    out, err = units.output()
    told = (out + err).decode(errors="replace")
    assert units.wait() == 0, told[-8000:]
    assert int(re.search(r"\[  PASSED  \] (\d+) tests", told)[1]) > 40
    assert "SKIPPED" not in told, told[-3000:]
