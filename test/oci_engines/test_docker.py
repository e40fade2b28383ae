"""What only Docker has."""

import signal
import time

import pytest
from engine import IMAGE, WAITS
from host import eventually

pytestmark = pytest.mark.engines("docker")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "ended"])
def test_live_restore(engine, same, name, number):
    """A container outlives its daemon, and the next daemon has all of it."""
    with engine.script(name, WAITS):
        engine.down(number)
        engine.up()
        same("runs", engine.state_of(name)["Running"], True)
        same("exec", engine.exec(name, "echo", "there").ok().text, "there\n")
        engine("stop", "-t", "30", name).ok()
        same("exit code", engine.ended(name), 3)


def test_end_without_the_daemon(engine, same, name):
    with engine.script(name, "echo ready; while [ ! -e /go ]; do sleep 0.1; done; sleep 2; exit 6"):
        engine.exec(name, "touch", "/go").ok()
        engine.down(signal.SIGKILL)
        engine.up()
        same("exit code", engine.ended(name), 6)


def test_restart_with_the_daemon(engine, same, name):
    """Without live-restore's help: what was killed meanwhile is started again."""
    with engine.script(name, "echo ready; exec sleep 1000", "--restart", "always"):
        pid = engine.state_of(name)["Pid"]
        engine("kill", name).ok()  # by hand: not to be started again
        same("runs", engine.state_of(name)["Running"], False)
        engine("start", name).ok()
        same("another process", engine.state_of(name)["Pid"] not in (0, pid), True)


def test_health(engine, same, name):
    def health():
        return engine.state_of(name)["Health"]["Status"]

    with engine.script(name, "echo ready; exec sleep 1000", "--health-cmd", "test -e /healthy",
                       "--health-interval", "1s", "--health-retries", "2",
                       "--health-timeout", "30s"):
        eventually(lambda: health() == "unhealthy", what="its illness")
        engine.exec(name, "touch", "/healthy").ok()
        eventually(lambda: health() == "healthy", what="its health")
        same("log", engine.state_of(name)["Health"]["Log"][-1]["ExitCode"], 0)


def test_default_runtime(engine, same, name):
    """Chosen in daemon.json, it needs no option."""
    with engine.default_runtime():
        told = engine("container", "run", "--name", name, "--rm", IMAGE, "echo", "there").ok()
        same("output", told.text, "there\n")


def test_rename(engine, same, name):
    with engine.script(name, "echo ready; exec sleep 1000"):
        engine("rename", name, f"{name}-new").ok()
        same("exec", engine.exec(f"{name}-new", "echo", "there").ok().text, "there\n")
        engine("rename", f"{name}-new", name).ok()


def test_events(engine, same, name):
    """What Docker hears of from the runtime, in order."""
    with engine.detached(name, IMAGE, "sh", "-c", "exit 3"):
        engine.ended(name)
        told = engine("events", "--since", "60s", "--until", str(int(time.time()) + 2),
                      "--filter", f"container={name}", "--format",
                      "{{.Action}} {{.Actor.Attributes.exitCode}}")
        same("events", [line.replace(" <no value>", "") for line in told.ok().lines],
             ["create", "start", "die 3"])


def test_error_of_the_runtime(engine, same, name):
    """Docker's client shows one line that names the command, and the container was never there."""
    told = engine("run", "--name", name, IMAGE, "/no/such/command")
    try:
        same("exit code", told.code, 127)
        lines = told.error.strip().splitlines()
        same("named", "/no/such/command" in lines[0], True)
        same("status", engine.state_of(name)["Status"], "created")
        same("again", engine("start", name).code, 1)
    finally:
        engine.remove(name)
