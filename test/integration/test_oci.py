"""bulkhead in runc's place: create, start, state, kill, delete, exec and the rest."""

import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import termios
import time

import host as host_module
import oci
import pytest
from host import eventually

SLEEP = "exec sleep 100000"


@pytest.fixture
def engine(host, rootfs):
    made = oci.Engine(host, rootfs)
    yield made
    made.close()


def read_until(fd, text, seconds=host_module.PATIENCE):
    seen, end = b"", time.monotonic() + seconds
    while text not in seen:
        assert time.monotonic() < end, f"no {text} in {seen}"
        if select.select([fd], [], [], 0.2)[0]:
            seen += os.read(fd, 4096)
    return seen


# --- life
def test_a_life(engine):
    box = engine.create("box", oci.spec("read x; echo out $x; echo err >&2; exit 7"))
    state = engine.state("box")
    assert state["status"] == "created" and state["pid"] == box.pid
    assert state["bundle"] == str(box.bundle) and state["ociVersion"] == "1.0.2"
    assert host_module.Process(box.pid).parent == os.getpid()  # its adopter: ours to wait for
    box.start()
    assert engine.state("box")["status"] == "running"
    box.stdin.write(b"word\n")
    assert box.output() == (b"out word\n", b"err\n")
    assert os.WEXITSTATUS(box.wait()) == 7
    assert engine.state("box")["status"] == "stopped" and engine.state("box")["pid"] == 0
    box.delete().ok()
    box.delete().fails("container does not exist", code=1)
    assert "does not exist" in engine.last_error()
    box.delete("--force").ok()


def test_end_of_stdin_and_large_output(engine):
    box = engine.create("box", oci.spec("wc -c; head -c 3000000 /dev/zero")).start()
    box.stdin.write(b"x" * 50000)
    box.stdin.close()
    out, _ = box.output()
    assert out.startswith(b"50000\n") and len(out) == 3000006
    assert box.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_signal_ends_it_as_a_signal(engine, number):
    box = engine.create("box", oci.spec(["sh", "-c", "trap - TERM; sleep 100000 & wait"])).start()
    if number == signal.SIGTERM:  # the first process of a namespace ignores it unless it handles it
        box.close()
        box = engine.create("two", oci.spec("trap 'exit 3' TERM; while :; do sleep 0.1; done"))
        box.start()
        time.sleep(1)
    engine("kill", box.name, str(int(number))).ok()
    status = box.wait()
    if number == signal.SIGKILL:
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    else:
        assert os.WEXITSTATUS(status) == 3
    engine("kill", box.name, "TERM").fails("container not running", code=1)
    engine("kill", "--all", box.name, "9").ok()


def test_signals_to_the_pid_reach_the_container(engine):
    script = "trap 'echo hup' HUP; trap 'exit 9' USR1; echo up; while :; do sleep 0.1; done"
    box = engine.create("box", oci.spec(script)).start()
    read_until(box.stdout.fileno(), b"up")
    os.kill(box.pid, signal.SIGHUP)
    read_until(box.stdout.fileno(), b"hup")
    os.kill(box.pid, signal.SIGUSR1)
    assert os.WEXITSTATUS(box.wait()) == 9


def test_its_death_is_the_containers(engine):
    box = engine.create("box", oci.spec(SLEEP)).start()
    os.kill(box.pid, signal.SIGKILL)
    assert os.WTERMSIG(box.wait()) == signal.SIGKILL
    eventually(lambda: engine.state("box")["status"] == "stopped")
    assert box.output() == (b"", b"")  # all of its ends are closed
    box.delete().ok()


def test_death_of_the_daemon(engine):
    box = engine.create("box", oci.spec(SLEEP)).start()
    daemon = next(process for process in engine.host.new_processes()
                  if " serve " in process.command)
    os.kill(daemon.pid, signal.SIGKILL)
    assert os.WTERMSIG(box.wait()) == signal.SIGKILL
    assert engine.state("box")["status"] == "stopped"
    engine("start", "box").fails("stopped", code=1)
    box.delete("--force").ok()


def test_delete_of_what_runs(engine):
    box = engine.create("box", oci.spec(SLEEP)).start()
    box.delete().fails("not stopped: running", code=1)
    box.delete("--force").ok()
    assert os.WIFSIGNALED(box.wait())
    engine("state", "box").fails("does not exist", code=1)


def test_delete_of_what_never_started(engine):
    box = engine.create("box", oci.spec(SLEEP))
    box.delete().ok()
    assert os.WIFSIGNALED(box.wait())


@pytest.mark.parametrize("moment", [0.01, 0.03, 0.1, 0.3])
def test_a_create_that_is_killed(engine, moment):
    """Whatever it had made by then, delete --force finds it."""
    bundle = engine.bundle("box", oci.spec(SLEEP))
    process = engine.host.start("--root", engine.host.state, "create", "--bundle", bundle, "box",
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(moment)
    process.kill()
    process.wait(host_module.PATIENCE)
    engine("delete", "--force", "box").ok()
    engine.host.nothing_left()


def test_many_at_once(engine):
    names = [f"box{number}" for number in range(4)]
    started = []
    for name in names:
        bundle = engine.bundle(name, oci.spec(f"echo {name}"))
        started.append(engine.host.start("--root", engine.host.state, "run", "-b", bundle, name))
    for name, process in zip(names, started):
        out, err = process.communicate(timeout=host_module.PATIENCE)
        assert (process.returncode, out.decode()) == (0, name + "\n"), err
    assert json.loads(engine("list", "--format", "json").ok().text) == []


# --- what it is given, and keeps
def test_files_of_the_caller_are_not_passed_on(engine):
    """containerd's shim has its listening socket open, without close-on-exec."""
    read, write = os.pipe()
    os.set_inheritable(write, True)
    box = engine.create("box", oci.spec(SLEEP), pass_fds=(write,)).start()
    os.close(write)
    assert os.read(read, 1) == b""  # nobody holds it
    os.close(read)
    engine("kill", "box", "KILL").ok()
    assert box.output() == (b"", b"")  # nor these
    held = oci.open_fds(box.pid).values()
    assert not [path for path in held if path.startswith("/")and path != "/dev/null"], held
    box.wait()


def test_cgroup_and_network(engine):
    box = engine.create("box", oci.spec("exec ip addr show lo")).start()
    assert oci.network_of(box.pid) != oci.network_of(os.getpid())
    with open(f"/proc/{box.pid}/cgroup", encoding="ascii") as file:
        assert f"/bulkhead-test-{os.getpid()}-box" in file.read()
    assert b"127.0.0.1" in box.output()[0]
    box.wait()
    box.delete().ok()
    assert not [path for path in host_module.cgroups() if path.endswith("-box")]


def test_a_tmpfs_that_is_filled(engine):
    """podman's --read-only asks for these."""
    document = oci.spec("cat /etc/passwd; touch /etc/new && ls -l /etc/new")
    document["root"]["readonly"] = True
    document["mounts"].append({"destination": "/etc", "type": "tmpfs", "source": "tmpfs",
                               "options": ["rw", "rprivate", "nosuid", "nodev", "tmpcopyup"]})
    out, err = engine.create("box", document).start().output()
    assert b"alice" in out and b"/etc/new" in out, err


def test_the_container_is_seen_through_the_pid(engine, rootfs, tmp_path):
    """As runc's by `podman cp` and others; and nothing of the host."""
    document = oci.spec("cat /volume/from-outside; " + SLEEP)
    document["mounts"].append({"destination": "/volume", "type": "bind", "source": str(tmp_path),
                               "options": ["rbind"]})
    box = engine.create("box", document)
    root = f"/proc/{box.pid}/root"
    assert sorted(os.listdir(root)) == sorted(os.listdir(rootfs))
    with open(root + "/volume/from-outside", "w") as file:
        file.write("words")
    assert (tmp_path / "from-outside").read_text() == "words"
    assert box.start().stdout.read(5) == b"words"
    with pytest.raises(OSError):
        open(root + "/dev/made", "w")  # a tmpfs in the guest
    assert [name for name in os.listdir(root + "/proc") if name.isdigit()] == ["1"]
    with open(root + "/proc/1/cmdline", "rb") as file:
        assert SLEEP.encode() in file.read()


def test_a_time_namespace(engine):
    """New Dockers ask for one."""
    document = oci.spec("readlink /proc/self/ns/time; " + SLEEP)
    document["linux"]["namespaces"].append({"type": "time"})
    box = engine.create("box", document).start()
    inside = eventually(lambda: box.stdout.readline(), what="its name").decode().strip()
    told = engine("exec", "box", "readlink", "/proc/self/ns/time").ok()
    assert inside.startswith("time:[") and told.text.strip() == inside
    other = engine.create("other", oci.spec("readlink /proc/self/ns/time")).start()
    assert other.output()[0].decode().strip() != inside


def test_two_roots_are_two_worlds(engine, tmp_path):
    engine.create("box", oci.spec(SLEEP)).start()
    engine.host("--root", tmp_path / "r", "state", "box").fails("does not exist", code=1)
    engine.host("--root", tmp_path / "r", "delete", "--force", "box").ok()
    assert engine.state("box")["status"] == "running"


def test_without_path_and_home(engine):
    """podman's cleanup has neither."""
    box = engine.create("box", oci.spec(SLEEP)).start()
    engine("delete", "--force", "box", env={"XDG_RUNTIME_DIR": "",
                                            "BULKHEAD_CONFIG": str(engine.host.config)}).ok()
    box.wait()


def test_the_same_id_twice(engine):
    engine.create("box", oci.spec(SLEEP))
    second = oci.Container(engine, "box", engine.bundle("other", oci.spec("true")))
    second.create(succeeds=False)
    assert second.created == 1 and "already exists" in engine.last_error()
    assert engine.state("box")["status"] == "created"


# --- what is refused
def refused(engine, document, *words):
    oci.refused(engine, document, *words)
    engine.host.nothing_left()


@pytest.mark.parametrize("missing", ["network", "pid"])
def test_the_hosts_namespaces(engine, missing):
    document = oci.spec("true")
    document["linux"]["namespaces"] = [entry for entry in document["linux"]["namespaces"]
                                       if entry["type"] != missing]
    refused(engine, document, "linux.namespaces: " + missing)


def test_bad_specs(engine):
    document = oci.spec("true")
    document["process"]["cwd"] = "nowhere"
    refused(engine, document, "process.cwd", "config.json")
    document = oci.spec("true")
    document["linux"]["namespaces"][0]["path"] = f"/proc/{os.getpid()}/ns/pid"
    refused(engine, document, "belongs to no container")
    document = oci.spec("true", linux={"timeOffsets": {"monotonic": {"secs": 5}}})
    refused(engine, document, "linux.timeOffsets")


def test_a_command_that_is_not_there(engine):
    refused(engine, oci.spec(["nosuch"]), "nosuch", "executable file not found")


# --- hooks
def test_hooks_in_order(engine, tmp_path):
    out = tmp_path / "hooks"
    kinds = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"]

    def hook(kind):
        script = f'echo "{kind} $(cat) $(readlink /proc/self/ns/net)" >> {out}'
        return [{"path": "/bin/sh", "args": ["sh", "-c", script]}]
    box = engine.create("box", oci.spec(SLEEP, hooks={kind: hook(kind) for kind in kinds}))
    inside = oci.network_of(box.pid)
    assert [line.split()[0] for line in out.read_text().splitlines()] == kinds[:3]
    box.start()
    box.delete("--force").ok()
    box.wait()
    lines = out.read_text().splitlines()
    assert [line.split()[0] for line in lines] == kinds
    states = [json.loads(line[line.index("{"):line.rindex("}") + 1]) for line in lines]
    assert [state["status"] for state in states] == ["creating"] * 3 + ["running", "stopped"]
    assert {state["pid"] for state in states[:4]} == {box.pid if box.pid else states[0]["pid"]}
    assert f"net:[{inside}]" in lines[2] and f"net:[{inside}]" not in lines[0]


def test_a_failed_hook_undoes_all(engine):
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "echo no network >&2; exit 1"]}
    refused(engine, oci.spec("true", hooks={"prestart": [hook]}), "hooks.prestart[0]",
            "no network")


def test_hooks_of_the_container(engine):
    """They run in it, as its user, when it is started; one that fails keeps its command away."""
    script = 'cat > /tmp/state; echo "$WORD $(id -u) $(tr -d "\\0" < /proc/1/comm)" > /tmp/words'
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["WORD=hook", "PATH=/bin"]}
    document = oci.spec("cat /tmp/words /tmp/state", hooks={"startContainer": [hook]})
    box = engine.create("box", document)
    out = box.start().output()[0].decode()
    words, state = out.split("\n", 1)
    assert words.split()[:2] == ["hook", "0"], out
    state = json.loads(state)
    assert (state["id"], state["status"], state["pid"]) == ("box", "created", 1)
    assert os.path.exists(state["bundle"] + "/config.json")
    box.wait()
    box.delete().ok()

    hook = {"path": "/bin/sh", "args": ["sh", "-c", "echo not today >&2; exit 3"]}
    box = engine.create("box", oci.spec("echo ran", hooks={"startContainer": [hook]}))
    engine("start", "box").fails("hooks.startContainer[0]", "not today", code=1)
    box.delete("--force").ok()
    assert b"ran" not in box.output()[0]

    hook = {"path": "/bin/sleep", "args": ["sleep", "1000"], "timeout": 1}
    box = engine.create("box", oci.spec("echo ran", hooks={"startContainer": [hook]}))
    engine("start", "box").fails("hooks.startContainer[0]", "timeout of 1 s", code=1)
    box.delete("--force").ok()


def test_a_network_that_a_hook_makes(engine):
    """As docker's, between the namespace and the VM."""
    script = 'nsenter -t $(sed "s/.*\\"pid\\": *\\([0-9]*\\).*/\\1/") -n sh -c "ip link add eth0 ' \
             'type veth peer name peer0; ip addr add 10.9.8.7/24 dev eth0; ip link set eth0 up"'
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=" + os.environ["PATH"]]}
    box = engine.create("box", oci.spec("ip addr", hooks={"prestart": [hook]})).start()
    assert b"10.9.8.7/24" in box.output()[0]
    box.wait()


# --- terminals
def window(fd, rows, columns):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def test_a_terminal(engine):
    console = oci.ConsoleSocket(engine.host.folder)
    document = oci.spec("tty; stty size; read x; stty size; echo got $x; exit 4", terminal=True)
    document["process"]["consoleSize"] = {"height": 20, "width": 60}
    box = engine.create("box", document, "--console-socket", console.path)
    master = console.receive()
    box.start()
    read_until(master, b"20 60")
    window(master, 33, 99)
    time.sleep(1)
    os.write(master, b"word\r")
    seen = read_until(master, b"got word")
    assert b"33 99" in seen
    assert os.WEXITSTATUS(box.wait()) == 4
    os.close(master)


# --- exec
def exec_detached(engine, box, args, **process):
    document = {**oci.spec(args)["process"], **process}
    file = box.bundle / "process.json"
    file.write_text(json.dumps(document))
    pid_file = box.bundle / "exec.pid"
    read, write = oci.new_pipe()
    process = engine.host.start("--root", engine.host.state, "exec", "--process", file, "--detach",
                                "--pid-file", pid_file, box.name, stdout=write)
    assert process.wait(host_module.PATIENCE) == 0, process.stderr.read()
    write.close()
    pid = int(pid_file.read_text())
    return pid, read


def test_exec_detached(engine):
    box = engine.create("box", oci.spec(SLEEP)).start()
    pid, out = exec_detached(engine, box, "echo hello; exit 6")
    assert out.read() == b"hello\n"
    ended = eventually(lambda: (lambda told: told if told[0] else None)(
        os.waitpid(pid, os.WNOHANG)))
    assert os.WEXITSTATUS(ended[1]) == 6
    pid, out = exec_detached(engine, box, SLEEP)
    assert json.loads(engine("ps", "--format", "json", "box").ok().text) == [box.pid, pid]
    os.kill(pid, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    assert out.read() == b""
    box.close()
    box.wait()


def test_exec_in_the_foreground(engine):
    box = engine.create("box", oci.spec(SLEEP)).start()
    told = engine("exec", "-e", "A=b", "--cwd", "/tmp", "--user", "1000:1000", "box", "sh", "-c",
                  "echo $A $(pwd) $(id -u); cat; exit 5", input=b"in\n").ok(5)
    assert told.lines == ["b /tmp 1000", "in"]
    engine("exec", "box", "nosuch").fails("nosuch", "not found", code=255)
    engine("pause", "box").ok()
    assert engine.state("box")["status"] == "paused"
    engine("exec", "box", "true").fails("paused", code=255)
    engine("resume", "box").ok()
    engine("exec", "box", "true").ok()
    box.close()
    engine("exec", "box", "true").fails("does not exist", code=125)
    box.wait()


# --- pods
def test_joining_anothers_network(engine):
    first = engine.create("one", oci.spec(SLEEP)).start()
    document = oci.spec("ip link add here type dummy; hostname", hostname="two")
    document["process"]["capabilities"] = {
        kind: [*oci.CAPABILITIES, "CAP_NET_ADMIN"] for kind in
        ("bounding", "effective", "permitted")}
    next(entry for entry in document["linux"]["namespaces"] if entry["type"] == "network")[
        "path"] = f"/proc/{first.pid}/ns/net"
    second = engine.create("two", document).start()
    assert second.output()[0] == b"two\n"
    assert second.wait() == 0
    assert len([process for process in engine.host.new_processes()
                if "qemu-system" in process.command]) == 1
    told = engine("exec", "one", "ip", "link", "show", "here").ok()
    assert "here" in told.text
    first.delete("--force").ok()
    first.wait()
    assert engine.state("two")["status"] == "stopped"
    second.delete().ok()


# --- the rest
def test_run_of_a_bundle(engine):
    bundle = engine.bundle("box", oci.spec("cat; exit 3"))
    assert engine("run", "--bundle", bundle, "box", input=b"x").ok(3).text == "x"
    assert engine("run", "box", cwd=bundle, input=b"y").ok(3).text == "y"
    engine("state", "box").fails("does not exist", code=1)


def test_list_ps_events_update(engine):
    document = oci.spec(SLEEP)
    document["linux"]["resources"] = {"pids": {"limit": 30}}
    box = engine.create("box", document).start()
    assert engine("list", "-q").ok().lines == ["box"]
    listed = json.loads(engine("list", "--format", "json").ok().text)
    assert [(entry["id"], entry["status"], entry["pid"]) for entry in listed] == [
        ("box", "running", box.pid)]
    assert engine("list").ok().lines[0].split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED",
                                                    "OWNER"]
    assert "sleep 100000" in engine("ps", "box").ok().text
    event = json.loads(engine("events", "--stats", "box").ok().text)
    assert event["type"] == "stats" and event["data"]["pids"]["limit"] == 30
    engine("update", "--resources", "-", "box", input=b'{"pids":{"limit":40}}').ok()
    engine("update", "--memory", "99m", "box").ok()
    event = json.loads(engine("events", "--stats", "box").ok().text)
    assert event["data"]["pids"]["limit"] == 40
    assert event["data"]["memory"]["usage"]["limit"] == 99 << 20
    engine("checkpoint", "box").fails("not implemented", code=1)
    box.delete("--force").ok()
    box.wait()


def test_spec_features_version(engine, tmp_path):
    engine("spec", "--bundle", tmp_path).ok()
    assert json.loads((tmp_path / "config.json").read_text())["process"]["args"] == ["sh"]
    engine("spec", "--bundle", tmp_path).fails("exists", code=1)
    assert json.loads(engine("features").ok().text)["ociVersionMin"] == "1.0.0"
    version = engine.host("--version").ok().lines
    assert version[0].startswith("bulkhead version ") and version[1].startswith("spec: 1.")
