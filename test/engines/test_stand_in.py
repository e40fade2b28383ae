"""The process on the host whose pid the engine is given for a container."""

import os
import signal

import pytest
from containerd import Events
from cri import NOTREADY, READY, RUNNING, Pod
from host import eventually

SLEEP = ("sleep", "100000")

pytestmark = pytest.mark.vm_only


def pid_of(engine, name, namespace=None):
    lines = engine("-n", namespace or engine.namespace, "task", "ls").ok().lines
    return next(int(line.split()[1]) for line in lines if line.startswith(name + " "))


def network_of(pid):
    return os.stat(f"/proc/{pid}/ns/net").st_ino


def test_its_network_is_that_of_cni(engine, name):
    with engine.detached(name, *SLEEP, options=["--cni"]):
        pid = pid_of(engine, name)
        assert network_of(pid) not in (network_of(engine.holder.pid), network_of(os.getpid()))
        with open(f"/proc/{pid}/net/dev", encoding="ascii") as file:
            assert "eth0:" in file.read()  # which the plugin made


def test_it_dies_with_its_container(engine, name):
    with engine.detached(name, *SLEEP):
        pid = pid_of(engine, name)
        engine("task", "kill", "-s", "SIGKILL", name).ok()
        eventually(lambda: engine.status(name) == "STOPPED", what="its end")
        assert engine.reap(name) == 137
        assert not os.path.exists(f"/proc/{pid}")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_its_death_is_the_containers(engine, name, number):
    """As with a runtime without VMs, where it would be the container."""
    with Events(engine) as events, engine.detached(name, *SLEEP):
        os.kill(pid_of(engine, name), number)
        events.wait(name, "exit")
        eventually(lambda: engine.status(name) == "STOPPED", what="its end")
        assert engine.reap(name) == 137
        exits = [payload["exit_status"] for topic, payload in events.wait(name, "delete")
                 if topic == "exit"]
        assert exits == [137]


def test_others_of_the_pod_live_on(engine, cri, name, tmp_path):
    """Until it is the sandbox's own, which is the pod's end."""
    with Pod(cri, engine, name, tmp_path) as pod:
        one, two = (pod.run(word, *SLEEP) for word in ("one", "two"))
        os.kill(pid_of(engine, one, "k8s.io"), signal.SIGKILL)
        assert pod.ended(one).exit_code == 137
        assert pod.status(two).state == RUNNING and pod.state() == READY
        assert pod.exec(two, "echo well").stdout == b"well\n"
        os.kill(pid_of(engine, pod.id, "k8s.io"), signal.SIGKILL)
        eventually(lambda: pod.state() == NOTREADY, what="the pod's end")
