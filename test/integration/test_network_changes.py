"""A pod's network that changes while the pod lives, and what is left of it; as with runc."""

import os
import signal
import threading

import pytest
from cni import PLUGINS, difference
from host import PATIENCE, eventually
from network_lab import PORT, Lab, rootfs_with_tools

RUNTIMES = ["bulkhead", "runc"]
PLUGS = 100  # half a second each
PODS = int(os.environ.get("BULKHEAD_TEST_PODS", "20"))  # two seconds each

pytestmark = pytest.mark.skipif(not PLUGINS.is_dir(), reason="no CNI plugins: run make deps")


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    return rootfs_with_tools(tmp_path_factory.mktemp("tools") / "rootfs")


def made_lab(kind, tools):
    made = Lab(kind, tools)
    try:
        made.serve(made.node)
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module", params=RUNTIMES)
def lab(request, tools):
    yield from made_lab(request.param, tools)


@pytest.fixture(scope="module")
def vms(tools):
    """Bulkhead's alone."""
    yield from made_lab("bulkhead", tools)


@pytest.fixture(scope="module")
def pod(lab):
    """Its first interface comes between create and start."""
    made = lab.pod("late").create()
    made.attach(lab.bridge, "eth0")
    return made.start()


def soon(condition, what):
    return eventually(condition, 20, what)


def shown(pod, interface):
    """(MTU, addresses) of an interface in the container, or None."""
    for link in pod.ip("addr"):
        if link["ifname"] == interface:
            return link["mtu"], {each["local"] for each in link["addr_info"]
                                 if each["scope"] == "global"}
    return None


# --- what comes and changes
def test_interface_between_create_and_start(lab, pod):
    assert shown(pod, "eth0") == (1400, {pod.address, pod.address6})
    assert pod.probe("tcp", "10.4.1.1", PORT, 1000, 1) == "1 echoed"
    assert lab.probe(lab.node, "tcp", pod.address6, PORT, 1000, 1) == "1 echoed"


def test_interface_of_a_running_pod(lab, pod):
    """Plugged in, changed in every way, and unplugged."""
    made = pod.attach(lab.ptp("10.6.4.0/24"), "net1")
    ours, = made.addresses
    soon(lambda: shown(pod, "net1") == (1500, {ours}), "the interface")
    soon(lambda: pod.probe("udp", "10.6.4.1", PORT, 100) == "echoed", "an echo")
    assert lab.probe(lab.node, "tcp", ours, PORT, 100_000, 2) == "2 echoed"

    pod.netns("ip", "link", "set", "net1", "mtu", "1200")  # IPv6 ends there
    soon(lambda: shown(pod, "net1") == (1200, {ours}), "the small MTU")
    pod.netns("ip", "link", "set", "net1", "mtu", "1280")
    soon(lambda: shown(pod, "net1") == (1280, {ours}), "the MTU")
    assert pod.probe("udp", "10.6.4.1", PORT, 1252) == "echoed"
    assert pod.probe("udp", "10.6.4.1", PORT, 1253) == "too large"

    pod.netns("ip", "addr", "add", "10.6.4.77/32", "dev", "net1")
    soon(lambda: shown(pod, "net1") == (1280, {ours, "10.6.4.77"}), "the address")
    lab.node("ip", "route", "add", "10.6.4.77", "dev", made.result["interfaces"][0]["name"])
    assert lab.probe(lab.node, "tcp", "10.6.4.77", PORT, 1000, 1) == "1 echoed"
    pod.netns("ip", "addr", "del", "10.6.4.77/32", "dev", "net1")
    soon(lambda: shown(pod, "net1") == (1280, {ours}), "the address's end")

    pod.netns("ip", "route", "add", "198.51.100.0/24", "via", "10.6.4.1")
    soon(lambda: pod.ip("route show 198.51.100.0/24"), "the route")
    pod.netns("ip", "route", "del", "198.51.100.0/24")
    soon(lambda: not pod.ip("route show 198.51.100.0/24"), "the route's end")

    pod.netns("ip", "neigh", "add", "10.6.4.9", "lladdr", "02:00:00:00:06:09", "nud", "permanent",
              "dev", "net1")
    soon(lambda: pod.ip("neigh show 10.6.4.9 nud permanent"), "the neighbour")
    pod.netns("ip", "neigh", "del", "10.6.4.9", "dev", "net1")
    soon(lambda: not pod.ip("neigh show 10.6.4.9 nud permanent"), "the neighbour's end")

    for family in ("-4", "-6"):
        def ruled(family=family):
            return 77 in [rule["priority"] for rule in pod.ip(f"{family} rule")]
        pod.netns("ip", family, "rule", "add", "priority", "77", "lookup", "main")
        soon(ruled, "the rule")
        pod.netns("ip", family, "rule", "del", "priority", "77")
        soon(lambda: not ruled(), "the rule's end")

    pod.netns("ip", "link", "set", "net1", "down")
    pod.netns("ip", "link", "set", "net1", "name", "other")
    pod.netns("ip", "link", "set", "other", "up")
    soon(lambda: (shown(pod, "other") or (0, ()))[1] == {ours}, "the name")
    assert shown(pod, "net1") is None
    pod.netns("ip", "link", "set", "other", "down")
    pod.netns("ip", "link", "set", "other", "name", "net1")
    pod.netns("ip", "link", "set", "net1", "up")
    soon(lambda: shown(pod, "net1"), "the old name")

    pod.detach(made)
    soon(lambda: pod.links() == {"lo", "eth0"}, "its end")


def test_changes_under_load(lab, pod):
    """What flows through one interface is not held up by others that come and go."""
    told = []
    stream = threading.Thread(target=lambda: told.append(
        lab.probe(lab.node, "push", pod.address, PORT, 15_000)))
    stream.start()
    try:
        for number in range(10):
            made = pod.attach(lab.ptp("10.6.5.0/24"), "net1")
            soon(lambda: "net1" in pod.links(), f"interface {number}")
            pod.detach(made)
            soon(lambda: "net1" not in pod.links(), f"the end of interface {number}")
    finally:
        stream.join(PATIENCE)
    assert float(told[0]) > 1_000_000  # bytes per second; the probe has counted every one


# --- what is left
def test_many_plugs(lab, pod):
    """The guest sees each come and go, and afterwards the namespaces are as they were."""
    before = pod.netns.snapshot(), lab.node.snapshot(), pod.ip("link")
    network = lab.ptp("10.6.6.0/24")
    process = lab.engine.host.start("--root", lab.host.state, "exec", pod.name, "/usr/sbin/ip",
                                    "-o", "monitor", "link")
    try:
        wait_for(process, pod, network)
        for _ in range(PLUGS):
            made = pod.attach(network, "net7")
            until(process, lambda line: "net7" in line and "LOWER_UP" in line)
            pod.detach(made)
            until(process, lambda line: "Deleted" in line and "net7" in line)
    finally:
        pod.run("kill $(pidof ip) || true")
        process.communicate(timeout=PATIENCE)
    soon(lambda: pod.links() == {"lo", "eth0"}, "the last one's end")
    soon(lambda: not difference(before[0], pod.netns.snapshot()), "the namespace as it was")
    assert difference(before[1], lab.node.snapshot()) == []
    assert [link["ifname"] for link in pod.ip("link")] == [link["ifname"] for link in before[2]]


def until(process, wanted):
    """Reads lines to the one that is wanted."""
    seen = []
    timer = threading.Timer(PATIENCE, process.kill)
    timer.start()
    try:
        while True:
            line = process.stdout.readline().decode()
            seen.append(line)
            assert line, f"the monitor ended: {seen[-20:]}"
            if wanted(line):
                return
    finally:
        timer.cancel()


def wait_for(monitor, pod, network):
    """It does not say when it has begun."""
    soon(lambda: "monitor" in pod.run("ps -o args"), "the monitor")
    made = pod.attach(network, "net7")
    until(monitor, lambda line: "net7" in line and "LOWER_UP" in line)
    pod.detach(made)
    until(monitor, lambda line: "Deleted" in line and "net7" in line)


def ready_pod(lab, name):
    """One with two interfaces that has not begun, and how its namespaces are."""
    made = lab.pod(name)
    made.attach(lab.bridge, "eth0", portMappings=[
        {"hostPort": 18100, "containerPort": PORT, "protocol": "tcp"}])
    made.attach(lab.macvlan("10.5.0.20/24"), "net1")
    return made, made.netns.snapshot()


def test_many_pods(vms):
    """In one namespace, one after the other: it is always as before."""
    pod, before = ready_pod(vms, "again")
    for number in range(PODS):
        pod.create().start()
        if number in (0, PODS - 1):
            assert vms.probe(vms.node, "tcp", pod.address, PORT, 1000, 1) == "1 echoed"
        pod.end()
        assert difference(before, pod.netns.snapshot()) == [], f"after pod {number}"
    vms.remove(pod)


def process_of(pod, victim):
    sign = {"daemon": f" serve --id={pod.name} ", "qemu": f"qemu-system-x86_64 -name {pod.name},"}
    return next(process for process in pod.lab.host.new_processes()
                if sign[victim] in process.command)


@pytest.mark.parametrize("victim", ["daemon", "qemu"])
def test_crash(vms, victim):
    """Killed without warning: once the container is deleted its namespace is as before, and is good
    for the next one."""
    pod, before = ready_pod(vms, f"crash-{victim}")
    pod.create().start()
    assert difference(before, pod.netns.snapshot())
    os.kill(process_of(pod, victim).pid, signal.SIGKILL)
    eventually(lambda: vms.engine.state(pod.name)["status"] == "stopped", what="its end")
    pod.end()
    assert difference(before, pod.netns.snapshot()) == []
    pod.create().start()
    assert vms.probe(vms.node, "tcp", pod.address, PORT, 1000, 1) == "1 echoed"
    pod.end()
    assert difference(before, pod.netns.snapshot()) == []
    vms.remove(pod)


def test_host_answers_again(vms):
    """After a pod's end its addresses are the namespace's again: frames go to the host's stack."""
    pod, _ = ready_pod(vms, "after")
    pod.create().start()
    pod.end()
    vms.serve(pod.netns)
    server = vms.servers.pop()
    try:
        assert vms.probe(vms.node, "tcp", pod.address, PORT, 1000, 1) == "1 echoed"
    finally:
        server.kill()
        server.wait(10)
        server.stdout.close()
    vms.remove(pod)
