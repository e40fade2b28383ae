"""Pods below containerd as the kubelet drives them."""

import concurrent.futures
import contextlib
import hashlib
import json
import os
import re
import socket
import struct
import subprocess
import threading
import time

import grpc
import pytest
from cri import (EXITED, NOTREADY, POD, READY, RESIZE, RUNNING, STDERR, STDIN, STDOUT, Pod,
                 Stream)
from host import PATIENCE, eventually

MIB = 1 << 20
SLEEP = ("sleep", "100000")
FORWARD = 0  # the channel of a forwarded port; errors come on the next
LOOP = "while :; do sleep 0.1; done"


@pytest.fixture
def pod(cri, engine, name, tmp_path):
    with Pod(cri, engine, name, tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def app(cri, engine, tmp_path_factory):
    """A pod with the container `app.container`, for all tests that do not end it."""
    with Pod(cri, engine, "app", tmp_path_factory.mktemp("app")) as made:
        made.container = made.run("app", *SLEEP)
        yield made


# ---- a pod and its containers
def test_pod_of_two(pod, cri, engine):
    assert pod.state() == READY
    status = cri.PodSandboxStatus(pod_sandbox_id=pod.id).status
    assert status.runtime_handler == engine.name
    assert re.fullmatch(r"10\.202\.0\.\d+", status.network.ip)
    one = pod.run("one", "sh", "-c", "mkdir /www; echo hello > /www/index.html; "
                  "exec httpd -f -p 127.0.0.1:8080 -h /www")
    two = pod.run("two", *SLEEP)
    assert [pod.status(made).state for made in (one, two)] == [RUNNING] * 2
    # One network, one /dev/shm, one host name; process numbers and files are each one's own.
    told = eventually(lambda: (got := pod.exec(two, "wget -qO- http://127.0.0.1:8080/"))
                      .exit_code == 0 and got, what="an answer")
    assert told.stdout == b"hello\n"
    pod.exec(one, "echo shared > /dev/shm/note")
    told = pod.exec(two, "cat /dev/shm/note; hostname; ls -d /www")
    assert told.stdout.decode().split() == ["shared", pod.config["hostname"]]
    assert b"/www" in told.stderr and told.exit_code == 1
    script = "cd /proc/self/ns; for name in net ipc uts pid mnt; do readlink $name; done"
    links = [pod.exec(made, script).stdout.split() for made in (one, two)]
    assert links[0][:3] == links[1][:3] and len(links[0]) == 5
    assert links[0][3] != links[1][3] and links[0][4] != links[1][4]
    assert pod.exec(two, "cat /proc/1/comm").stdout == b"sleep\n"


@pytest.mark.vm_only
def test_huge_pages_of_a_volume(pod, engine, tmp_path):
    """As a kubelet makes it: they are the VM's, and all containers of the pod have the same."""
    volume = tmp_path / "volume"
    volume.mkdir()
    mount = ("mount", "-t", "hugetlbfs", "-o", "pagesize=2M,size=8M", "none", volume)
    if subprocess.run(engine.inside(*mount), timeout=60, check=False).returncode != 0:
        pytest.skip("no hugetlbfs can be mounted here")
    try:
        given = [{"container_path": "/hugepages", "host_path": str(volume)}]
        one, two = (pod.run(name, *SLEEP, mounts=given) for name in ("one", "two"))
        told = pod.exec(one, "truncate -s 4M /hugepages/file; grep /hugepages /proc/mounts")
        assert b" hugetlbfs rw," in told.stdout and b"pagesize=2M" in told.stdout, told
        script = "stat -c %s /hugepages/file; awk '/^HugePages_Total/ { print $2 }' /proc/meminfo"
        assert pod.exec(two, script).stdout.split() == [str(4 * MIB).encode(), b"4"]
        inside = subprocess.run(engine.inside("ls", "-A", volume), stdout=subprocess.PIPE,
                                timeout=60, check=True)
        assert inside.stdout == b""
    finally:
        subprocess.run(engine.inside("umount", volume), timeout=60, check=True)



def test_user_namespace(cri, engine, name, tmp_path):
    """`hostUsers: false`: one for the pod, whose containers share processes here, too."""
    version = cri.Version(version="v1")
    if version.runtime_name != "containerd" or version.runtime_version.lstrip("v") < "2":
        pytest.skip(f"tried below containerd 2, not {version.runtime_name} "
                    f"{version.runtime_version}")
    maps = [{"host_id": 100000, "container_id": 0, "length": 65536}]
    with Pod(cri, engine, name, tmp_path, pid=POD,
             userns_options={"mode": POD, "uids": maps, "gids": maps}) as pod:
        one = pod.run("one", "sleep", "54321")
        two = pod.run("two", *SLEEP)
        script = "readlink /proc/self/ns/user; cat /proc/self/uid_map; touch /in-root; " \
                 "stat -c %u /in-root /dev/shm /proc/1"
        told = [pod.exec(made, script).stdout.decode().split() for made in (one, two)]
        assert told[0] == told[1]
        assert told[0][1:] == ["0", "100000", "65536", "0", "65534", "0"], told
        seen = pod.exec(two, "ps -o pid,args").stdout.decode()
        pod.exec(two, "kill -KILL " + re.search(r"(\d+) sleep 54321", seen)[1])
        assert pod.ended(one).exit_code == 137


def test_shared_process_namespace(cri, engine, name, tmp_path):
    with Pod(cri, engine, name, tmp_path, pid=POD) as pod:
        one = pod.run("one", "sleep", "54321")
        two = pod.run("two", *SLEEP)
        seen = pod.exec(two, "ps -o pid,args").stdout.decode()
        assert "sleep 54321" in seen and "sleep 100000" in seen
        pid = re.search(r"(\d+) sleep 54321", seen)[1]
        assert int(pid) > 1, "process 1 is the pod's own"
        pod.exec(two, f"kill -KILL {pid}")
        assert pod.ended(one).exit_code == 137
        assert pod.status(two).state == RUNNING


def test_init_container_and_restart(pod, cri):
    """Containers of a pod come and go while the pod stays."""
    first = pod.run("init", "sh", "-c", "echo prepared > /dev/shm/file; exit 0")
    assert (pod.ended(first).exit_code, pod.status(first).reason) == (0, "Completed")
    pid = pod.run("app", "sh", "-c", "cat /dev/shm/file; exit 3")
    assert (pod.ended(pid).exit_code, pod.status(pid).reason) == (3, "Error")
    cri.RemoveContainer(container_id=pid)
    again = pod.run("app", "sh", "-c", f"cat /dev/shm/file; {LOOP}")
    assert pod.state() == READY and pod.status(again).state == RUNNING
    eventually(lambda: pod.log("app").count(("stdout", "F", "prepared")) == 2, what="the log")
    assert len(cri.ListContainers(filter={"pod_sandbox_id": pod.id}).containers) == 2


def test_stop(pod, cri):
    """With time a container ends by itself; without, or deaf, it is killed."""
    willing = pod.run("willing", "sh", "-c", f"trap 'exit 4' TERM; echo ready; {LOOP}")
    deaf = pod.run("deaf", "sh", "-c", f"trap '' TERM; echo ready; {LOOP}")
    for name in ("willing", "deaf"):
        eventually(lambda: pod.log(name), what="its trap")
    start = time.monotonic()
    cri.StopContainer(container_id=willing, timeout=str(int(PATIENCE)))
    assert pod.status(willing).exit_code == 4 and time.monotonic() - start < PATIENCE / 2
    start = time.monotonic()
    cri.StopContainer(container_id=deaf, timeout="1")
    assert pod.status(deaf).exit_code == 137 and time.monotonic() - start >= 1
    assert pod.state() == READY


def test_stop_of_the_pod(pod, cri):
    """Its containers end with it, but stay on the list until they are removed."""
    made = pod.run("app", *SLEEP)
    cri.StopPodSandbox(pod_sandbox_id=pod.id)
    assert pod.state() == NOTREADY
    status = pod.status(made)
    assert status.state == EXITED and status.exit_code == 137
    cri.StopPodSandbox(pod_sandbox_id=pod.id)  # once more is no error
    cri.RemovePodSandbox(pod_sandbox_id=pod.id)
    assert not [item for item in cri.ListPodSandbox().items if item.id == pod.id]
    with pytest.raises(grpc.RpcError):
        pod.status(made)


def test_security(pod):
    security = {"run_as_user": {"value": "1000"}, "readonly_rootfs": True,
                "capabilities": {"drop_capabilities": ["ALL"]}, "no_new_privs": True,
                **pod.security}
    made = pod.run("app", "sh", "-c", "id -u; touch /x || echo refused; "
                   "grep -E 'CapBnd|NoNewPrivs' /proc/self/status",
                   linux={"security_context": security}, envs=[{"key": "A", "value": "b"}])
    assert pod.ended(made).exit_code == 0
    lines = [text for stream, _, text in pod.log("app") if stream == "stdout"]
    assert lines == ["1000", "refused", "CapBnd:\t" + "0" * 16, "NoNewPrivs:\t1"]


def test_sysctls(cri, engine, name, tmp_path):
    """A pod's kernel parameters are those of its containers."""
    pod = Pod(cri, engine, name, tmp_path)
    pod.config["linux"]["sysctls"] = {"kernel.shm_rmid_forced": "1", "fs.mqueue.msg_max": "100",
                                      "net.ipv4.conf.eth0.rp_filter": "2"}
    with pod:
        made = pod.run("app", *SLEEP)
        script = "cd /proc/sys; cat kernel/shm_rmid_forced fs/mqueue/msg_max " \
                 "net/ipv4/conf/eth0/rp_filter"
        assert pod.exec(made, script).stdout.split() == [b"1", b"100", b"2"]


def test_sysctl_that_does_not_exist(cri, engine, name, tmp_path):
    pod = Pod(cri, engine, name, tmp_path)
    pod.config["linux"]["sysctls"] = {"net.no.such": "1"}
    with pytest.raises(grpc.RpcError) as told, pod:
        pass
    assert "net/no/such" in told.value.details()


def test_command_that_does_not_exist(pod, cri):
    with pytest.raises(grpc.RpcError) as told:
        pod.run("app", "no-such-command")
    assert "no-such-command" in told.value.details()
    made = cri.ListContainers(filter={"pod_sandbox_id": pod.id}).containers[0].id
    assert pod.status(made).state == EXITED and pod.status(made).exit_code != 0
    assert pod.state() == READY


# ---- exec, attach, port-forward
def test_exec_sync(app):
    told = app.exec(app.container, "echo out; echo err >&2; exit 9")
    assert (told.stdout, told.stderr, told.exit_code) == (b"out\n", b"err\n", 9)
    told = app.exec(app.container, "head -c 1000000 /dev/zero")
    assert told.stdout == bytes(1000000)


def test_exec_sync_timeout(app):
    start = time.monotonic()
    with pytest.raises(grpc.RpcError) as told:
        app.exec(app.container, "exec sleep 77777", seconds=1)
    assert told.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert time.monotonic() - start < PATIENCE / 2
    eventually(lambda: b"77777" not in app.exec(app.container, "ps -o args").stdout,
               what="the command's end")


def test_exec_stream(app, cri, engine):
    url = cri.Exec(container_id=app.container, stdin=True, stdout=True, stderr=True, cmd=[
        "sh", "-c", "echo err >&2; head -c 300000 | sha256sum; exit 7"]).url
    data = bytes(range(250)) * 1200
    with Stream(engine, url) as stream:
        for at in range(0, len(data), 30000):
            stream.send(STDIN, data[at:at + 30000])
        assert stream.end() == 7
        expected = hashlib.sha256(data).hexdigest()
        assert stream.seen[STDOUT].decode().split()[0] == expected
        assert stream.seen[STDERR] == b"err\n"


def test_exec_stream_terminal(app, cri, engine):
    url = cri.Exec(container_id=app.container, stdin=True, stdout=True, tty=True, cmd=["sh"]).url
    with Stream(engine, url) as stream:
        stream.send(RESIZE, json.dumps({"Width": 99, "Height": 33}).encode())
        time.sleep(0.5)  # it is passed on beside the input
        stream.send(STDIN, b"stty size; [ -t 2 ] && echo three-\"\"ttys\n")
        stream.until(STDOUT, b"33 99")
        stream.until(STDOUT, b"three-ttys")
        stream.send(STDIN, b"exit 6\n")
        assert stream.end() == 6


def test_attach(pod, cri, engine):
    made = pod.run("app", "sh", "-c", "while read x; do echo got $x; echo err $x >&2; done",
                   stdin=True)
    url = cri.Attach(container_id=made, stdin=True, stdout=True, stderr=True).url
    for word in (b"one", b"two"):  # who goes away does not take the container along
        with Stream(engine, url) as stream:
            stream.send(STDIN, word + b"\n")
            stream.until(STDOUT, b"got " + word)
            stream.until(STDERR, b"err " + word)
        url = cri.Attach(container_id=made, stdin=True, stdout=True, stderr=True).url
    assert pod.status(made).state == RUNNING
    eventually(lambda: ("stdout", "F", "got two") in pod.log("app"), what="the log")


@pytest.fixture
def server(app, cri):
    """A web server in the pod, on its port 8080."""
    made = app.run("www", "sh", "-c", "mkdir /www; echo served > /www/index.html; "
                   "exec httpd -f -p 8080 -h /www")
    eventually(lambda: app.exec(made, "wget -qO- http://127.0.0.1:8080/").exit_code == 0,
               what="the server")
    yield app
    cri.StopContainer(container_id=made, timeout="0")
    cri.RemoveContainer(container_id=made)


@contextlib.contextmanager
def forwarded(engine, pod, cri, port):
    """A stream to a port of the pod, on channel FORWARD; errors are told on the next."""
    url = cri.PortForward(pod_sandbox_id=pod.id, port=[port]).url
    with Stream(engine, f"{url}?port={port}") as stream:
        for channel in (FORWARD, FORWARD + 1):  # both begin by telling the port
            stream.until(channel, struct.pack("<H", port))
        yield stream


def test_port_forward(server, cri, engine):
    for _ in range(3):
        with forwarded(engine, server, cri, 8080) as stream:
            stream.send(FORWARD, b"GET / HTTP/1.0\r\n\r\n")
            stream.until(FORWARD, b"served\n")
            while stream.receive():  # the server's end is the client's
                pass


def test_port_forward_carries_much(pod, cri, engine):
    """More than all buffers between hold, there and back, on several connections at once."""
    made = pod.run("echo", "nc", "-ll", "-p", "7777", "-e", "cat")
    eventually(lambda: b":7777 " in pod.exec(made, "netstat -lnt").stdout, what="the server")
    data = os.urandom(1 << 20) * 8
    expected = hashlib.sha256(data).digest()

    def echo(_):
        with forwarded(engine, pod, cri, 7777) as stream:
            sender = threading.Thread(target=stream.send, args=(FORWARD, data))
            sender.start()
            stream.until_size(FORWARD, 2 + len(data))
            sender.join()
            return hashlib.sha256(stream.seen[FORWARD][2:]).digest() == expected
    with concurrent.futures.ThreadPoolExecutor() as pool:
        assert all(pool.map(echo, range(3)))


def test_port_forward_to_nobody(app, cri, engine):
    with forwarded(engine, app, cri, 4444) as stream:
        stream.send(FORWARD, b"hello")
        while stream.receive():
            pass
        assert stream.seen[FORWARD] == struct.pack("<H", 4444)
        assert re.search(b"reset|refused", stream.seen[FORWARD + 1])


def test_pod_address(server, cri, engine):
    """What listens in the pod is reached from the host."""
    address = cri.PodSandboxStatus(pod_sandbox_id=server.id).status.network.ip
    with engine.network(), socket.create_connection((address, 8080), 5) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert connection.makefile("rb").read().endswith(b"served\n")


# ---- log, statistics, resources
def test_log(pod, cri, tmp_path):
    long = 40000  # longer than what one line of the log may hold
    made = pod.run("app", "sh", "-c", f"""
        echo out; echo err >&2; head -c {long} /dev/zero | tr '\\0' x; echo
        printf unfinished; while [ ! -e /go ]; do sleep 0.1; done; echo; echo new; {LOOP}""")
    eventually(lambda: sum(len(text) for _, _, text in pod.log("app")) >= long, what="the log")
    stamp = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d) "
                       r"(stdout|stderr) [FP] ")
    for line in (tmp_path / "app.log").read_text().splitlines():
        assert stamp.match(line), line[:100]
    lines = pod.log("app")
    assert ("stdout", "F", "out") in lines and ("stderr", "F", "err") in lines
    parts = [(tag, text) for _, tag, text in lines if text.startswith("x")]
    assert "".join(text for _, text in parts) == "x" * long
    assert [tag for tag, _ in parts] == ["P"] * (len(parts) - 1) + ["F"] and len(parts) > 1
    (tmp_path / "app.log").rename(tmp_path / "app.log.old")
    cri.ReopenContainerLog(container_id=made)
    pod.exec(made, "touch /go")
    eventually(lambda: ("stdout", "F", "new") in pod.log("app"), what="the new log")
    assert "new" not in (tmp_path / "app.log.old").read_text()


@pytest.mark.own_shim("the host's cgroup has the VM")
def test_stats(pod, cri):
    one = pod.run("one", "sh", "-c",
                  "x=$(head -c 40000000 /dev/zero | tr '\\0' x); echo ready; while :; do :; done")
    two = pod.run("two", *SLEEP)
    eventually(lambda: ("stdout", "F", "ready") in pod.log("one"), what="its start")
    first, start = cri.ContainerStats(container_id=one).stats, time.monotonic()
    time.sleep(1.5)
    second = cri.ContainerStats(container_id=one).stats
    burnt = (second.cpu.usage_core_nano_seconds.value -
             first.cpu.usage_core_nano_seconds.value) / 1e9
    assert 0.1 < burnt < 8 * (time.monotonic() - start)
    assert 38 * MIB < second.memory.working_set_bytes.value < 160 * MIB
    assert second.attributes.metadata.name == "one"
    listed = {item.attributes.id: item for item in
              cri.ListContainerStats(filter={"pod_sandbox_id": pod.id}).stats}
    assert set(listed) == {one, two}
    # Each has a count of its own.
    assert listed[two].cpu.usage_core_nano_seconds.value < \
        listed[one].cpu.usage_core_nano_seconds.value
    assert 0 < listed[two].memory.working_set_bytes.value < 36 * MIB


def test_update_of_resources(pod, cri):
    made = pod.run("app", *SLEEP, memory=64 * MIB)
    script = ("cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || "
              "cat /sys/fs/cgroup/memory.max")
    assert int(pod.exec(made, script).stdout) == 64 * MIB
    cri.UpdateContainerResources(container_id=made,
                                 linux={"memory_limit_in_bytes": str(96 * MIB)})
    assert int(pod.exec(made, script).stdout) == 96 * MIB


@pytest.mark.own_shim("the host's cgroup has the VM")
def test_out_of_memory(pod):
    made = pod.run("app", "sh", "-c", "exec tail /dev/zero", memory=64 * MIB)
    status = pod.ended(made)
    assert status.exit_code == 137
    # The event may arrive after the end.
    eventually(lambda: pod.status(made).reason == "OOMKilled", what="the reason")
    assert pod.state() == READY
