"""Containers whose root is nobody's outside: Docker's userns-remap, Podman's --uidmap and --userns."""

import os

import pytest
from engine import IMAGE

FIRST = 100000
RANGE = ["0", str(FIRST), "65536"]
OPTIONS = {"docker": (), "podman": ("--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536")}


@pytest.fixture
def options(engine):
    """Those of a container in a user namespace."""
    with engine.remapped():
        yield OPTIONS[engine.kind]


@pytest.fixture
def volume(tmp_path):
    tmp_path.chmod(0o777)
    (tmp_path / "roots").write_text("secret\n")
    (tmp_path / "roots").chmod(0o600)
    return tmp_path


def test_user_namespace(engine, same, options, volume):
    told = engine.shell("cat /proc/self/uid_map /proc/self/gid_map; id -u", *options).ok()
    same("maps", told.text.split(), [*RANGE, *RANGE, "0"])
    told = engine.shell("echo x > /v/f; chown 5:6 /v/f; cat /v/roots; stat -c %u /v/roots /bin",
                        "-v", f"{volume}:/v", *options)
    same("owners inside", (told.code, told.text), (0, "65534\n0\n"))
    same("denied", "denied" in told.error, True)
    made = os.stat(volume / "f")
    same("owner outside", (made.st_uid, made.st_gid), (FIRST + 5, FIRST + 6))
    same("user", engine.run("--user", "7:8", *options, IMAGE, "id", "-u").ok().text, "7\n")
    told = engine.shell("mknod /dev/x b 7 0; echo $?; head -c 3 /dev/zero | wc -c; echo x > "
                        "/dev/null; ls /sys/class/net; hostname", "--hostname", "there", *options)
    same("devices and links", told.text.split(), ["1", "3", "eth0", "lo", "there"])


def test_user_namespace_with_a_server(engine, same, options, name):
    """Its root binds low ports, and another user may enter."""
    serve = "mkdir /tmp/www && echo page > /tmp/www/index.html; echo ready; " \
            "exec httpd -f -p 80 -h /tmp/www"
    with engine.script(name, serve, *options):
        same("page", engine.exec(name, "fetch", "127.0.0.1", "80").ok().text, "page\n")
        same("exec", engine.exec(name, "sh", "-c", "id -u; cat /proc/self/uid_map").ok()
             .text.split(), ["0", *RANGE])
        told = engine.exec(name, "id", "-u", options=("-u", "9"))
        same("exec of a user", (told.code, told.text), (0, "9\n"))
        engine("cp", f"{name}:/tmp/www/index.html", "-").ok()
        same("stop", engine("stop", "-t", "1", name).code, 0)


@pytest.mark.engines("podman")
def test_user_namespace_of_another(engine, same, options, name):
    with engine.script(name, "echo ready; exec sleep 1003", *options):
        joined = ("--userns", f"container:{name}", "--pid", f"container:{name}", "--network",
                  f"container:{name}")
        script = "readlink /proc/self/ns/user; cat /proc/self/uid_map; kill -0 1; echo $?"
        told = engine.shell(script, *joined).ok().text.split()
        same("maps", told[1:], [*RANGE, "0"])
        own = engine.exec(name, "readlink", "/proc/self/ns/user").ok().text.strip()
        same("the other's", told[0] == own, True)


@pytest.mark.engines("podman")
def test_user_namespace_of_a_pod(engine, same, name):
    """Of a range that Podman chooses."""
    for kind in ("subuid", "subgid"):
        engine.path(f"/etc/{kind}").write_text("containers:2147483647:1000000\n")
    engine("pod", "create", "--name", name, "--userns", "auto:size=70000").ok()
    try:
        maps = [engine.shell("cat /proc/self/uid_map; touch /tmp/x", "--pod", name).ok()
                .text.split() for _ in range(2)]
        same("maps", (maps[0] == maps[1], maps[0][0], maps[0][2]), (True, "0", "70000"))
        same("not ours", int(maps[0][1]) >= 2147483647, True)
    finally:
        engine("pod", "rm", "-f", name)
