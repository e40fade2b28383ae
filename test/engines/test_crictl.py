"""A pod of two containers through crictl, as administrators of a node use it."""

import contextlib
import hashlib
import json
import os
import pathlib
import socket
import subprocess
import tarfile

import pytest
from containerd import IMAGE
from cri import POD
from host import ROOT, eventually

BUILD_TOOLS = ROOT / "test" / "conformance" / "build-tools"


@pytest.fixture(scope="session")
def crictl(engine):
    """Calls it: `crictl("ps", "-q")` is what it prints."""
    found = subprocess.run([BUILD_TOOLS, "--print", "cri-tools"], capture_output=True, text=True,
                           timeout=60, check=False)
    if found.returncode != 0:
        pytest.skip("crictl is not built: run test/conformance/build-tools cri-tools")
    program = pathlib.Path(found.stdout.strip()) / "crictl"

    def command(*words):
        return engine.inside(program, "--timeout", "60s", "--runtime-endpoint",
                             f"unix://{engine.socket}", "--image-endpoint",
                             f"unix://{engine.socket}", *words)

    def call(*words, code=0, **options):
        options = options or {"capture_output": True, "text": True}
        done = subprocess.run(command(*words), timeout=120, check=False, **options)
        assert done.returncode == code, (words, done)
        return done.stdout.strip() if done.stdout else ""
    call.command = command
    return call


def written(path, value):
    path.write_text(json.dumps(value))
    return path


@pytest.fixture
def pod(crictl, cri, engine, name, tmp_path):
    """Its identifier, and a function that creates and starts a container in it."""
    cri.ready()
    config = written(tmp_path / "pod.json", {
        "metadata": {"name": name, "uid": name, "namespace": "default", "attempt": 0},
        "hostname": name, "log_directory": str(tmp_path),
        "linux": {"cgroup_parent": f"/{engine.namespace}/{name}",
                  "security_context": {"namespace_options": {"pid": POD}}}})
    made = crictl("runp", "--runtime", engine.name, config)

    def run(which, *command):
        container = crictl("create", "--no-pull", made, written(tmp_path / f"{which}.json", {
            "metadata": {"name": which}, "image": {"image": IMAGE}, "command": command,
            "log_path": f"{which}.log", "linux": {}}), config)
        assert crictl("start", container) == container
        return container
    yield made, run
    crictl("rmp", "-f", made)
    engine.remove_cgroup(name)


@pytest.mark.own_shim("the host's cgroup has the VM")
def test_pod_of_two(crictl, pod, name):
    made, run = pod
    one = run("one", "sh", "-c", "echo out; echo err >&2; mkdir /www; echo hello > /www/index.html;"
                                 "exec httpd -f -p 127.0.0.1:8080 -h /www")
    two = run("two", "sleep", "100000")
    assert crictl("pods", "-q", "--state", "ready", "--name", name) == made
    assert sorted(crictl("ps", "-q", "--no-trunc", "--pod", made).split()) == sorted([one, two])

    # With -s by ExecSync; without, over a stream.
    get = ("wget", "-qO-", "http://127.0.0.1:8080/")
    eventually(lambda: crictl("exec", "-s", two, "sh", "-c", f"{' '.join(get)} || true"),
               what="an answer")
    assert crictl("exec", "-s", two, *get) == "hello"
    assert crictl("exec", two, *get) == "hello"
    crictl("exec", two, "sh", "-c", "exit 3", code=1)  # crictl has one code for every failure

    def logged():
        return sorted(crictl("logs", one).splitlines()) == ["out"]
    eventually(logged, what="the log")
    stats = json.loads(crictl("stats", "-o", "json", "--id", two))["stats"]
    assert [each["attributes"]["id"] for each in stats] == [two]
    assert int(stats[0]["memory"]["workingSetBytes"]["value"]) > 0
    status = json.loads(crictl("inspect", one))["status"]
    assert (status["state"], status["metadata"]["name"]) == ("CONTAINER_RUNNING", "one")

    crictl("stop", "--timeout", "1", one, two)
    assert crictl("ps", "-q", "--pod", made) == ""
    # By SIGTERM, which a process that is not its namespace's first one does not ignore.
    assert json.loads(crictl("inspect", two))["status"]["exitCode"] == 143
    crictl("rm", one, two)
    assert crictl("ps", "-aq", "--pod", made) == ""
    crictl("stopp", made)
    assert crictl("pods", "-q", "--state", "notready", "--name", name) == made


def test_copy_by_tar(crictl, pod, tmp_path):
    """As `kubectl cp` does it: tar at both ends of an exec, over the streams of a kubelet."""
    made, run = pod
    box = run("box", "sleep", "100000")
    data = os.urandom(110 << 20)
    (tmp_path / "copied").write_bytes(data)
    subprocess.run(["tar", "-cf", tmp_path / "in.tar", "-C", tmp_path, "copied"], check=True,
                   timeout=60)
    with open(tmp_path / "in.tar", "rb") as archive:
        crictl("exec", "-i", box, "tar", "-xmf", "-", "-C", "/work", stdin=archive)
    assert crictl("exec", "-s", box, "sha256sum", "/work/copied").split()[0] == hashlib.sha256(
        data).hexdigest()
    with open(tmp_path / "out.tar", "wb") as archive:
        crictl("exec", box, "tar", "-cf", "-", "-C", "/work", "copied", stdout=archive)
    with tarfile.open(tmp_path / "out.tar") as archive:
        assert archive.extractfile("copied").read() == data
    crictl("stopp", made)


def test_port_forward(crictl, pod, engine):
    """As `kubectl port-forward` does it, by SPDY, to a server that nobody else can reach."""
    made, run = pod
    www = run("www", "sh", "-c", "mkdir /www; echo hello > /www/index.html; "
                                 "exec httpd -f -p 127.0.0.1:8080 -h /www")
    # crictl forwards nothing any more once a connection has failed.
    eventually(lambda: ":8080 " in crictl("exec", "-s", www, "netstat", "-lnt"), what="the server")

    def page():
        with contextlib.suppress(OSError), engine.network(), \
                socket.create_connection(("127.0.0.1", 18080), 5) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return connection.makefile("rb").read().splitlines()[-1:]
        return None
    forward = subprocess.Popen(crictl.command("port-forward", made, "18080:8080"),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: page() == [b"hello"], what="the page")
        assert [page() for _ in range(5)] == 5 * [[b"hello"]]
    finally:
        forward.kill()
        forward.wait(10)
    crictl("stopp", made)
