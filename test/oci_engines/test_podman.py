"""What only Podman has."""

import contextlib
import os

import pytest
from engine import IMAGE, WAITS
from host import PATIENCE, eventually

pytestmark = pytest.mark.engines("podman")
SERVE = "mkdir -p /www && echo page > /www/index.html && echo ready && " \
        "exec httpd -f -p 8080 -h /www"
PLAY = """apiVersion: v1
kind: Pod
metadata:
  name: {name}
spec:
  containers:
  - name: server
    image: {image}
    command: [sh, -c, "{serve}"]
    env: [{{name: WORD, value: word}}]
    volumeMounts: [{{name: shared, mountPath: /shared}}]
  - name: client
    image: {image}
    command: [sh, -c, "echo $WORD-; exec fetch 127.0.0.1 8080"]
  volumes:
  - name: shared
    hostPath: {{path: {folder}, type: Directory}}
"""


@contextlib.contextmanager
def pod(engine, name, *options):
    try:
        engine("pod", "create", "--name", name, *options).ok()
        yield name
    finally:
        engine("pod", "rm", "-f", name)


def test_pod(engine, same, name):
    """Its containers share the network and IPC, and what is done to it is done to all."""
    with pod(engine, name, "--hostname", "there"):
        engine("run", "-d", "--pod", name, "--name", f"{name}-server", IMAGE, "sh", "-c",
               SERVE).ok()
        told = engine.run("--pod", name, IMAGE, "fetch", "127.0.0.1", "8080")
        same("page", (told.code, told.text), (0, "page\n"))
        told = engine.shell("hostname; ls /sys/class/net", "--pod", name).ok()
        same("name and links", told.text.split(), ["there", "eth0", "lo"])
        engine("pod", "pause", name).ok()
        same("paused", engine.state_of(f"{name}-server")["Status"], "paused")
        engine("pod", "unpause", name).ok()
        engine("pod", "stop", "-t", "1", name).ok()
        same("stopped", engine.state_of(f"{name}-server")["Status"], "exited")
        engine("pod", "start", name).ok()
        same("started", engine.state_of(f"{name}-server")["Status"], "running")


def test_pod_with_a_port(engine, same, name):
    from test_networks import page  # pylint: disable=import-outside-toplevel
    with pod(engine, name, "-p", "127.0.0.1:18081:8080"):
        engine("run", "-d", "--pod", name, IMAGE, "sh", "-c", SERVE).ok()
        same("page", eventually(lambda: page(engine, "127.0.0.1", 18081), what="the page"),
             ["page"])


def test_pod_that_shares_processes(engine, same, name):
    with pod(engine, name, "--share", "pid,net,ipc,uts"):
        engine("run", "-d", "--pod", name, IMAGE, "sleep", "1004").ok()
        told = engine.shell("ps | grep -c 'sleep [1]004'; tr '\\0' ' ' < /proc/1/cmdline",
                            "--pod", name).ok()
        same("sees the other", told.lines[0], "1")
        same("the first is the pod's", "sleep" not in told.lines[1], True)


def test_play_kube(engine, same, name, tmp_path):
    (tmp_path / "pod.yaml").write_text(PLAY.format(
        name=name, image=IMAGE, folder=tmp_path, serve="echo $WORD > /shared/word; " + SERVE))
    try:
        engine("play", "kube", tmp_path / "pod.yaml").ok()
        same("page", eventually(lambda: engine("logs", f"{name}-client").ok().lines[1:2],
                                what="the page"), ["page"])
        same("shared", (tmp_path / "word").read_text(), "word\n")
    finally:
        engine("play", "kube", "--down", tmp_path / "pod.yaml")
        engine("pod", "rm", "-f", name)  # on a busy machine Podman may give its own `--down` up
        engine("network", "rm", "podman-default-kube-network")


def test_init_then_start(engine, same, name):
    """The two halves of a start one by one."""
    engine("create", "--name", name, IMAGE, "sh", "-c", WAITS).ok()
    try:
        engine("init", name).ok()
        same("state", engine.state_of(name)["Status"], "initialized")
        engine("start", name).ok()
        eventually(lambda: engine("logs", name).ok().text == "ready\n", what="its words")
        engine("stop", "-t", "30", name).ok()
        same("exit code", engine.ended(name), 3)
    finally:
        engine.remove(name)


def test_inherited_descriptors(engine, same):
    """Only what was asked for."""
    reader, writer = os.pipe()
    os.write(writer, b"from outside\n")
    os.close(writer)
    try:
        process = engine.start("run", "--rm", "--preserve-fds", "1", IMAGE, "sh", "-c",
                               "cat <&3; ls /proc/self/fd | wc -l", close_fds=False,
                               preexec_fn=lambda: os.dup2(reader, 3))
        out, _ = process.communicate(timeout=PATIENCE)
        same("words", (process.returncode, out.decode().splitlines()),
             (0, ["from outside", "5"]))
    finally:
        os.close(reader)


def test_health(engine, same, name):
    with engine.script(name, "echo ready; exec sleep 1000", "--health-cmd", "test -e /healthy",
                       "--health-interval", "disable"):
        same("ill", engine("healthcheck", "run", name).code, 1)
        engine.exec(name, "touch", "/healthy").ok()
        same("well", engine("healthcheck", "run", name).code, 0)


def test_mounted_from_outside(engine, same, name):
    """What the container writes is in the mount that Podman shows."""
    with engine.script(name, "echo word > /work/file; echo ready; exec sleep 1000"):
        folder = engine("mount", name).ok().text.strip()
        same("file", engine.path(folder + "/work/file").read_text(), "word\n")
        engine("umount", name).ok()


def test_runtime_is_told(engine, same, runtime, name):
    with engine.detached(name, IMAGE, "true"):
        engine.ended(name)
        same("runtime", engine.inspect(name)["OCIRuntime"] == runtime, True)
