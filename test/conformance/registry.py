"""A registry on loopback with the images that critest pulls, made of busybox and the stand-ins."""

import contextlib
import pathlib
import subprocess
import tarfile

import images
from containerd import PAUSE
from host import eventually

ADDRESS = "127.0.0.1:5000"  # in a network namespace of the test's own
STAND_INS = ("nginx", "httpd", "nonewprivs", "pause", "pgrep", "ipcs")
PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/home:/bin/false\n"
GROUP = "root:x:0:\nnobody:x:65534:\n"
# Of the image that is about groups.
MORE_PASSWD = PASSWD + "default-user:x:1000:1000::/home:/bin/sh\n"
MORE_GROUP = GROUP + "default-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n"


def stand_ins_layer(program):
    members = [(images.member("bin/stand-ins", mode=0o755), program.read_bytes())]
    members += [(images.member("bin/" + name, tarfile.SYMTYPE, 0o777, "stand-ins"), b"")
                for name in STAND_INS if name != "nonewprivs"]
    # A link has no mode of its own, and other names must not be privileged.
    members.append((images.member("bin/nonewprivs", mode=0o4755), program.read_bytes()))
    return images.layer(members)


def file_layer(path, text):
    return images.layer([(images.member(path), text.encode())])


def wanted(program):
    """(name without its registry, layers, configuration) of each image."""
    base = [images.busybox_layer(hard_links=True), stand_ins_layer(program),
            file_layer("etc/passwd", PASSWD), file_layer("etc/group", GROUP)]
    e2e, staging = "e2e-test-images/", "k8s-staging-cri-tools/"
    yield "pause:1", base, {"Cmd": ["pause"]}  # CRI-O's
    yield e2e + "busybox:1.29-2", base, {}
    yield e2e + "nginx:1.14-2", base, {"Cmd": ["nginx"]}
    yield e2e + "httpd:2.4.39-4", base, {"Cmd": ["httpd", "-D", "FOREGROUND"]}
    yield e2e + "nonewprivs:1.3", base, {"Entrypoint": ["nonewprivs"]}
    yield staging + "hostnet-nginx-amd64:latest", base, {"Cmd": ["nginx", "12003"]}
    for name in ("tag:test", "tag:all", "latest:latest", "1:latest", "2:latest", "3:latest"):
        yield f"{staging}test-image-{name}", [*base, file_layer("name", name)], {}
    for number in range(1, 4):
        yield f"{staging}test-image-tags:{number}", [*base, file_layer("name", "tags")], {}
    for name, user in (("uid", "1002"), ("username", "www-data"), ("uid-group", "1003:users"),
                       ("username-group", "www-data:100")):
        yield f"{staging}test-image-user-{name}:latest", base, {"User": user}
    yield (staging + "test-image-predefined-group:latest",
           [*base, file_layer("etc/passwd", MORE_PASSWD), file_layer("etc/group", MORE_GROUP)],
           {"User": "1000"})


def pause_image(program, path):
    """Nothing named sleep is in it: critest looks for such a process in a pod."""
    layers = [images.busybox_layer(), stand_ins_layer(program)]
    return images.docker_save(path, layers, {"Cmd": ["pause"]}, tag=PAUSE)


def fill(engine, crane, program):
    path = engine.folder / "image.tar"
    for name, layers, config in wanted(program):
        # Docker's user names are kept as they are; the status of an image tells them.
        images.docker_save(path, layers, config)
        subprocess.run(engine.inside(crane, "push", "--insecure", path, f"{ADDRESS}/{name}"),
                       check=True, capture_output=True, timeout=120)
    path.unlink()


@contextlib.contextmanager
def served(engine, crane, stand_ins):
    """The registry, filled, in the engine's network."""
    with open(engine.folder / "registry.log", "wb") as log:
        process = subprocess.Popen(
            engine.inside("setpriv", "--pdeathsig", "KILL", crane, "registry", "serve",
                          "--address", ADDRESS),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        eventually(lambda: subprocess.run(
            engine.inside(crane, "catalog", "--insecure", ADDRESS), check=False,
            capture_output=True, timeout=30).returncode == 0, what="the registry's start")
        fill(engine, crane, stand_ins)
        yield
    finally:
        process.kill()
        process.wait(10)
