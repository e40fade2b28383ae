"""What needs no guest: help, version, check, bad options, bad images."""

import hashlib
import json
import os
import tarfile

import images
import pytest
from host import PATIENCE


def test_version_and_help(host):
    assert host("version").ok().text.strip()
    help_text = host("--help").ok().text
    for command in ("run", "exec", "ps", "kill", "logs", "list", "rm", "wait", "check", "version"):
        assert command in help_text
    for option in ("--interactive", "--env-file", "--read-only", "--memory", "--timeout", "--init"):
        assert option in host("run", "--help").ok().text


def test_check_tells_about_the_host(host):
    told = host("check")
    assert told.code in (0, 1), str(told)
    for word in ("KVM", "vsock", "virtiofs", "cgroup"):
        assert word.lower() in told.text.lower(), str(told)


def test_list_of_nothing(host):
    assert len(host("list").ok().lines) <= 1  # at most a heading


@pytest.mark.parametrize("arguments", [
    ["run"],
    ["run", "--no-such-option", "x"],
    ["run", "-m", "much", "x"],
    ["run", "--cpus", "-1", "x"],
    ["run", "-v", "nowhere", "x"],
    ["run", "--ulimit", "nofile", "x"],
    ["run", "--cap-add", "NO_SUCH", "x"],
    ["run", "--network", "bridge", "x"],
    ["run", "--name", "../escape", "x"],
    ["run", "--timeout", "soon", "x"],
    ["no-such-command"],
])
def test_bad_arguments(host, arguments):
    told = host(*arguments)
    assert told.code == 125, str(told)
    assert told.out == b"" and told.err.strip(), str(told)
    assert "terminate called" not in told.error


@pytest.mark.parametrize("command", [["exec", "nobody", "true"], ["ps", "nobody"],
                                     ["kill", "nobody"], ["logs", "nobody"], ["wait", "nobody"],
                                     ["rm", "nobody"]])
def test_unknown_container(host, command):
    told = host(*command)
    assert told.code != 0 and "nobody" in told.error, str(told)


@pytest.mark.parametrize("text, word", [
    ("[hypervisor]\nqemuu = 'x'\n", "qemuu"),
    ("[hypervisor]\nvcpus = 'many'\n", "vcpus"),
    ("[nonsense]\nkey = 1\n", "nonsense"),
    ("[hypervisor\n", "line"),
])
def test_bad_configuration(host, busybox, text, word):
    host.config.write_text(text)
    host.run(busybox, "true").fails(word)


def test_missing_configuration(host, busybox):
    host.run("--config", "/nonexistent.toml", busybox, "true").fails("/nonexistent.toml")


def test_missing_image(host):
    host.run("/nonexistent.tar", "true").fails("/nonexistent.tar")


def test_image_that_is_no_image(host):
    path = host.folder / "noise.tar"
    path.write_bytes(os.urandom(100_000))
    host.run(path, "true").fails("noise.tar")
    path.write_bytes(b"")
    host.run(path, "true").fails("noise.tar")


def test_truncated_image(host, busybox):
    path = host.folder / "half.tar"
    path.write_bytes(busybox.read_bytes()[:600_000])
    host.run(path, "true").fails("half.tar")


def test_corrupt_layer_is_told_by_its_digest(host, busybox_layer):
    layout = images.oci_layout(host.folder / "layout", [busybox_layer])
    blob = layout / "blobs" / "sha256" / hashlib.sha256(busybox_layer).hexdigest()
    data = bytearray(blob.read_bytes())
    data[5000] ^= 1
    blob.write_bytes(data)
    host.run(layout, "true").fails(blob.name[:12])


def test_layer_listed_but_missing(host, busybox_layer):
    layout = images.oci_layout(host.folder / "layout", [busybox_layer])
    (layout / "blobs" / "sha256" / hashlib.sha256(busybox_layer).hexdigest()).unlink()
    host.run(layout, "true").fails()


def test_image_of_another_architecture(host, busybox_layer):
    path = images.docker_save(host.folder / "arm.tar", [busybox_layer], architecture="arm64")
    host.run(path, "true").fails("arm64")


def escapes():
    """Layers that try to write outside of their folder."""
    link = images.member("way", tarfile.SYMTYPE, 0o777, "/tmp")
    outside = "../../../../etc/shadow"
    return {
        "dots": [(images.member("../../../../tmp/bulkhead-escaped"), b"x")],
        "absolute": [(images.member("/tmp/bulkhead-escaped"), b"x")],
        "link": [(link, b""), (images.member("way/bulkhead-escaped"), b"x")],
        "hard link": [(images.member("copy", tarfile.LNKTYPE, 0o644, outside), b"")],
    }


@pytest.mark.parametrize("kind", escapes())
def test_layer_that_tries_to_leave_its_folder(host, kind):
    path = images.docker_save(host.folder / "evil.tar", [images.layer(escapes()[kind])])
    told = host.run(path, "true", timeout=PATIENCE)
    assert told.code in (125, 127), str(told)  # refused, or kept inside and no `true` in it
    assert not os.path.exists("/tmp/bulkhead-escaped")
    for folder, _, names in os.walk(host.data):
        for name in names:
            full = os.path.join(folder, name)
            if os.path.exists("/etc/shadow") and not os.path.islink(full):
                assert not os.path.samefile(full, "/etc/shadow")


def test_log_format_json(host):
    told = host.run("--log-format", "json", "/nonexistent.tar", "true")
    assert told.code == 125
    for line in told.error.strip().splitlines():
        assert isinstance(json.loads(line), dict), str(told)
