"""What dies below, beside or above a container: what is told of it, and that nothing stays.

The fixture `nothing_left` fails a test that leaves a process, mount, control group or socket.
"""

import json
import os
import signal
import time

import images
import pytest
from containerd import IMAGE, SHIMS, Events
from cri import EXITED, NOTREADY, READY, RUNNING, Pod
from host import PATIENCE, eventually

SLEEP = ("sleep", "100000")
LOOP = "echo ready; while :; do sleep 0.1; done"


@pytest.fixture
def sockets(engine):
    """runc's shim, killed, leaves its socket behind; that is no fault of these tests."""
    before = engine.sockets()
    yield
    if SHIMS[engine.name] == "runc":
        for path in engine.sockets() - before:
            path.unlink()


# ---- containerd
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_restart_of_containerd(engine, name, tmp_path, number):
    """The task runs on, can be used again, and its end is told once."""
    log = tmp_path / "log"
    with engine.detached(name, "sh", "-c", "while :; do echo x; sleep 0.1; done",
                         options=["--log-uri", f"file://{log}"]):
        eventually(lambda: log.stat().st_size, what="output")
        with engine.away(number):
            size = log.stat().st_size
            eventually(lambda: log.stat().st_size > size, what="output without containerd")
        assert engine.status(name) == "RUNNING"
        assert engine.exec(name, "sh", "-c", "echo out; exit 8").ok(8).out == b"out\n"
        with Events(engine) as events:
            engine("task", "kill", "-s", "SIGKILL", name).ok()
            events.wait(name, "exit")
            eventually(lambda: engine.status(name) == "STOPPED", what="its end")
            assert engine.reap(name) == 137
            seen = events.wait(name, "delete")
        assert [(topic, payload["exit_status"]) for topic, payload in seen] == \
            [("exit", 137), ("delete", 137)]


def test_end_without_containerd(engine, name, tmp_path):
    """The exit code waits for containerd."""
    script = "while [ ! -e /mnt/go ]; do sleep 0.1; done; touch /mnt/done; exit 5"
    options = ["--mount", f"type=bind,src={tmp_path},dst=/mnt,options=rbind:rw"]
    with engine.detached(name, "sh", "-c", script, options=options):
        with engine.away():
            (tmp_path / "go").touch()
            eventually(lambda: (tmp_path / "done").exists(), what="its end")
            time.sleep(1)  # from its last file to its end
        if engine.major >= 2:  # it removes what has no process when it starts, runc's as well
            assert engine.status(name) is None
        else:
            assert engine.status(name) == "STOPPED"
            assert engine.reap(name) == 5


def test_kill_9_of_the_client(engine, name):
    """The container of a dead `ctr run` runs on until somebody removes it."""
    process = engine.running(name, LOOP)
    process.kill()
    process.communicate(timeout=PATIENCE)
    assert engine.status(name) == "RUNNING"
    engine.exec(name, "true").ok()
    engine.remove(name)
    assert engine.status(name) is None


# ---- the shim
def test_kill_9_of_the_shim(engine, name, sockets):
    """Containerd calls the shim's `delete`, which ends what is left of the container."""
    before = engine.named("containerd-shim")
    with Events(engine) as events, engine.detached(name, *SLEEP):
        os.kill(engine.born("containerd-shim", before), signal.SIGKILL)
        seen = events.wait(name, "delete")
        eventually(lambda: engine.status(name) is None, what="the task's end")
        exits = [payload for topic, payload in seen if topic == "exit"]
        assert [payload["exit_status"] for payload in exits] == [137]
        told = engine.exec(name, "true")
        assert told.code == 1 and "not found" in told.error, str(told)


def test_kill_9_of_the_shim_without_containerd(engine, name, sockets):
    """The next containerd finds out at its start."""
    before = engine.named("containerd-shim")
    with engine.detached(name, *SLEEP):
        shim = engine.born("containerd-shim", before)
        with engine.away():
            os.kill(shim, signal.SIGKILL)
        eventually(lambda: engine.status(name) is None, what="the task's end")
    engine.run(name, "true").ok()  # the name is free again


def test_shim_that_is_not_there(engine, name):
    told = engine("run", "--rm", "--runtime", "io.containerd.nothing.v2", IMAGE, name,
                  "true")
    assert told.code == 1 and "containerd-shim-nothing-v2" in told.error, str(told)


# ---- the VM
@pytest.mark.vm_only
def test_kill_9_of_qemu(engine, name):
    before = engine.named("qemu-system")
    with Events(engine) as events:
        process = engine.running(name, LOOP)
        size = engine.log.stat().st_size
        os.kill(engine.born("qemu-system", before), signal.SIGKILL)
        process.communicate(timeout=PATIENCE)
        assert process.returncode not in (0, None)
        seen = events.wait(name, "exit")
        assert [payload["exit_status"] for topic, payload in seen if topic == "exit"] == [137]
    reason = engine.log_since(size).lower()
    assert "signal 9" in reason or "sigkill" in reason, reason


@pytest.mark.vm_only
@pytest.mark.parametrize("setting", ["qemu", "kernel", "image"])
def test_vm_that_cannot_start(engine, name, setting):
    engine.configure(**{setting: "/nonexistent/file"})
    try:
        told = engine.run(name, "true")
        assert told.code == 1 and "/nonexistent/file" in told.error, str(told)
        assert len(told.error.strip().splitlines()) == 1, str(told)
    finally:
        engine.configure()


# Zeros over the program of process 1, which ends it at its next step. Nobody in the guest may send
# it a deadly signal, but who may trace it may write to its memory.
END_OF_THE_AGENT = r"""
echo ready; sleep 1
range=$(sed -n 's/^\([0-9a-f]*\)-\([0-9a-f]*\) r-xp .*/0x\1 0x\2/p' /proc/1/maps | head -n 1)
first=${range% *} last=${range#* }
dd if=/dev/zero of=/proc/1/mem bs=4096 seek=$((first / 4096)) conv=notrunc \
  count=$(((last - first) / 4096))
sleep 100000
"""


@pytest.mark.vm_only
def test_end_of_the_agent(engine, name, layer, tmp_path):
    """Process 1 of the guest ends by a fault of its own: a panic, which is told as such."""
    # A container among the guest's own processes; ctr has no option for that.
    engine("container", "create", *engine.chosen, "--cap-add", "CAP_SYS_PTRACE",
           IMAGE, name).ok()
    spec = json.loads(engine("container", "info", "--spec", name).ok().text)
    engine("container", "rm", name).ok()
    spec["process"]["args"] = ["sh", "-c", END_OF_THE_AGENT]
    spec["root"]["path"] = str(images.unpack(layer, tmp_path / "root"))
    spec["linux"]["namespaces"] = [space for space in spec["linux"]["namespaces"]
                                   if space["type"] != "pid"]
    config = tmp_path / "config.json"
    config.write_text(json.dumps(spec))
    with Events(engine) as events:
        size = engine.log.stat().st_size
        told = engine.run(name, options=["--config", config], image=None)
        assert told.code == 137 and told.out == b"ready\n", str(told)
        seen = events.wait(name, "delete")
        assert [payload["exit_status"] for topic, payload in seen if topic == "exit"] == [137]
    reason = engine.log_since(size)
    assert "panic" in reason and "Attempted to kill init" in reason, reason


# ---- pods
def test_restart_of_containerd_under_a_pod(engine, cri, name, tmp_path):
    with Pod(cri, engine, name, tmp_path) as pod:
        made = pod.run("app", "sh", "-c", "i=0; while :; do echo $((i += 1)); sleep 0.1; done")
        ended = pod.run("ended", "sh", "-c", "exit 6")
        assert pod.ended(ended).exit_code == 6
        eventually(lambda: pod.log("app"), what="the log")
        with engine.away():
            time.sleep(0.5)
        cri.ready()
        assert pod.state() == READY and pod.status(made).state == RUNNING
        assert (pod.status(ended).state, pod.status(ended).exit_code) == (EXITED, 6)
        assert pod.exec(made, "exit 8").exit_code == 8
        more = len(pod.log("app")) + 5
        eventually(lambda: len(pod.log("app")) > more, what="more of the log")
        assert pod.ended(pod.run("another", "sh", "-c", "exit 9")).exit_code == 9


@pytest.mark.parametrize("victim", [
    "containerd-shim", pytest.param("qemu-system", marks=pytest.mark.vm_only)])
def test_kill_9_below_a_pod(engine, cri, name, tmp_path, sockets, victim):
    """All that the pod had is over, which is told, and its removal is clean."""
    before = engine.named(victim)
    with Pod(cri, engine, name, tmp_path) as pod:
        made = [pod.run(word, *SLEEP) for word in ("one", "two")]
        os.kill(engine.born(victim, before), signal.SIGKILL)
        for container in made:
            assert pod.ended(container).exit_code not in (0, None)
        eventually(lambda: pod.state() == NOTREADY, what="the pod's end")
        assert pod.id in [item.id for item in cri.ListPodSandbox().items]
