"""`kill -9` of the shim, QEMU and virtiofsd at each step of a pod's life.

The client gets an error or 137, an end is told once, and nothing stays (`nothing_left`).
"""

import contextlib
import os
import signal
import socket
import subprocess
import time

import grpc
import pytest
from api import TASKS, Api, create_task
from containerd import IMAGE, Events
from cri import Pod
from host import PATIENCE, PROGRAM, eventually

SLEEP = ("sleep", "100000")
SHIM, QEMU, SHARE = VICTIMS = ("containerd-shim", "qemu-system", "virtiofsd")
REASONS = {QEMU: "signal 9", SHARE: "virtiofsd"}

pytestmark = pytest.mark.vm_only


def kill_first(engine, word, before):
    """Kills the first new process with this word in its name as soon as it is there."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        for pid, found in engine.named(word).items():
            if pid not in before and "--help" not in found.command:  # a question to the program
                with contextlib.suppress(ProcessLookupError):  # it was about to end: the next
                    os.kill(pid, signal.SIGKILL)
                    return
    raise AssertionError(f"{word} was not started")


def is_free(engine, name):
    """The name can be used again."""
    engine.run(name, "true").ok()


def exits(events, name, process=None):
    """The exit codes told of a task, or of an exec."""
    return [payload.get("exit_status", 0) for topic, payload in events.of(name)
            if topic == "exit" and payload["id"] == (process or name)]


@pytest.mark.parametrize("victim", VICTIMS)
def test_during_create(engine, name, victim):
    """The shim dies before or as it is asked to create, the others while the guest boots."""
    before = engine.named(victim)
    with Events(engine) as events:
        process = engine.start(*engine.words(name, *SLEEP, options=["--rm"]))
        kill_first(engine, victim, before)
        err = process.communicate(timeout=PATIENCE)[1].decode()
        assert process.returncode != 0
        assert len(err.strip().splitlines()) == 1 and REASONS.get(victim, "") in err, err
        is_free(engine, name)
        assert events.wait(name, "exit")
        assert exits(events, name) == [0], "the end of what never was is not told"


@pytest.mark.parametrize("told", [False, True])
def test_end_of_start(tmp_path, told):
    """Who has started a daemon and dies before the engine knows of it takes it along."""
    lifeline, ours = os.pipe()
    with socket.socket(socket.AF_UNIX) as listener, open(tmp_path / "lock", "w") as lock:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        (tmp_path / "pod").mkdir()
        daemon = subprocess.Popen(
            [os.path.join(os.path.dirname(PROGRAM), "containerd-shim-bulkhead-v2"), "serve",
             "--id=x", "--namespace=y", f"--pod-dir={tmp_path}/pod", f"--socket={tmp_path}/s",
             f"--socket-fd={listener.fileno()}", f"--lock-fd={lock.fileno()}",
             f"--lifeline-fd={lifeline}", "--auto-remove"],
            pass_fds=(listener.fileno(), lock.fileno(), lifeline), stderr=subprocess.DEVNULL)
    os.close(lifeline)
    if told:
        os.write(ours, b"x")
    os.close(ours)
    if told:
        with pytest.raises(subprocess.TimeoutExpired):
            daemon.wait(2)
        daemon.terminate()
    assert daemon.wait(PATIENCE) == 0
    assert os.listdir(tmp_path) == ["lock"]


@pytest.mark.parametrize("victim", [SHIM, QEMU])
@pytest.mark.parametrize("delay", [0.3, 0.8])
def test_late_in_create(engine, name, victim, delay):
    """In the guest's start, or when the files are shared, or soon after."""
    before, qemus = engine.named(victim), engine.named(QEMU)
    process = engine.start(*engine.words(name, *SLEEP, options=["--rm"]))
    eventually(lambda: set(engine.named(QEMU)) - set(qemus), what="QEMU")
    time.sleep(delay)
    os.kill(engine.born(victim, before), signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    is_free(engine, name)


@pytest.mark.parametrize("victim", VICTIMS)
def test_between_create_and_start(engine, name, victim):
    before = engine.named(victim)
    engine("container", "create", *engine.chosen, IMAGE, name, *SLEEP).ok()
    with Events(engine) as events:
        create_task(engine, name)
        os.kill(engine.born(victim, before), signal.SIGKILL)
        with pytest.raises(grpc.RpcError):
            Api(engine, TASKS).Start(container_id=name)
        events.wait(name, "exit")
        engine("task", "rm", "-f", name)
        events.wait(name, "delete")
        assert exits(events, name) == [137]
    engine("container", "rm", name).ok()


@pytest.mark.parametrize("which", ["parent", "child"])
def test_virtiofsd_of_a_running_pod(engine, name, which):
    """The guest would wait for its files for ever: the pod ends, and the reason is told."""
    before = engine.named(SHARE)
    with Events(engine) as events:
        process = engine.running(name, "echo ready; while :; do sleep 0.1; done")
        size = engine.log.stat().st_size
        victim = engine.born(SHARE, before)
        if which == "child":  # the program splits in two
            victim = next((pid for pid, found in engine.named(SHARE).items()
                           if found.parent == victim), victim)
        os.kill(victim, signal.SIGKILL)
        process.communicate(timeout=PATIENCE)
        assert process.returncode not in (0, None)
        events.wait(name, "delete")
        assert exits(events, name) == [137]
    assert "the virtual machine ended: virtiofsd for " in engine.log_since(size)


@pytest.mark.parametrize("victim", VICTIMS)
def test_while_an_exec_runs(engine, name, victim):
    before = engine.named(victim)
    with Events(engine) as events, engine.detached(name, *SLEEP):
        process = engine.start("task", "exec", "--exec-id", "extra", name, "sh", "-c",
                               "echo ready; exec sleep 100000")
        assert process.stdout.readline() == b"ready\n"
        os.kill(engine.born(victim, before), signal.SIGKILL)
        process.communicate(timeout=PATIENCE)
        assert process.returncode not in (0, None)
        events.wait(name, "exit")
        if victim != SHIM:  # with the shim goes what knew of the exec
            eventually(lambda: exits(events, name, "extra"), what="the exec's end")
            assert exits(events, name, "extra") == [137]
            assert engine.reap(name) == 137
        events.wait(name, "delete")
        assert exits(events, name) == [137]


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("delay", [0, 0.03, 0.1])
def test_during_delete(engine, name, victim, delay):
    """Whether it was in time or not."""
    before = engine.named(victim)
    with Events(engine) as events, engine.detached(name, *SLEEP):
        pid = engine.born(victim, before)
        engine("task", "kill", "-s", "SIGKILL", name).ok()
        events.wait(name, "exit")
        process = engine.start("task", "rm", name)
        time.sleep(delay)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.communicate(timeout=PATIENCE)
        eventually(lambda: engine("task", "rm", name).code and engine.status(name) is None,
                   what="the task's end")
        engine("container", "rm", name).ok()
        is_free(engine, name)


def test_network_of_the_pod(engine, cri, name, tmp_path):
    """The shim dies: no redirect stays at the interfaces of a namespace that is the engine's."""
    before = engine.named(SHIM)
    namespaces = engine.tasks / "io.containerd.grpc.v1.cri" / "netns"
    others = set(namespaces.iterdir()) if namespaces.is_dir() else set()
    with Pod(cri, engine, name, tmp_path):
        netns, = set(namespaces.iterdir()) - others

        def redirects():
            words = ("nsenter", f"--net={netns}", "tc", "filter", "show", "dev", "eth0", "ingress")
            return subprocess.run(engine.inside(*words), capture_output=True, text=True,
                                  timeout=PATIENCE, check=True).stdout
        assert "mirred" in redirects()
        os.kill(engine.born(SHIM, before), signal.SIGKILL)
        eventually(lambda: not redirects(), what="the namespace as it was")
