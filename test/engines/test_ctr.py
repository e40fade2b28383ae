"""The runtime below containerd as ctr drives it."""

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import tarfile
import time

import images
import pytest
from api import TASKS, Api
from containerd import ALICE, IMAGE, Events
from host import PATIENCE, PROGRAM, eventually
from terminal import Terminal

PARALLEL = int(os.environ.get("BULKHEAD_TEST_PARALLEL", "20"))
CYCLES = int(os.environ.get("BULKHEAD_TEST_CYCLES", "5"))
LOOP = "while :; do sleep 0.1; done"
MIB = 1 << 20


# ---- run
@pytest.mark.parametrize("code", [0, 7])
def test_exit_code_and_streams(engine, name, code):
    told = engine.run(name, "sh", "-c", f"echo out; echo err >&2; exit {code}").ok(code)
    assert told.out == b"out\n" and told.err == b"err\n"


def test_detached(engine, name, tmp_path):
    log = tmp_path / "log"
    with engine.detached(name, "sh", "-c", f"trap 'exit 3' TERM; echo ready; {LOOP}",
                         options=["--log-uri", f"file://{log}"]):
        line = next(line.split() for line in engine("task", "ls").ok().lines
                    if line.startswith(name + " "))
        assert int(line[1]) > 0 and line[2] == "RUNNING"
        eventually(log.read_text, what="its trap")
        engine("task", "kill", "-s", "SIGTERM", name).ok()
        eventually(lambda: engine.status(name) == "STOPPED", what="its end")
        assert engine.reap(name) == 3
        assert engine.status(name) is None


def test_terminal_with_resize(engine, name):
    with Terminal(rows=24, columns=80) as terminal:
        process = engine.start(*engine.words(name, "sh", options=["--rm", "-t"]),
                               **terminal.streams())
        terminal.send("tty; [ -t 2 ] && echo three-\"\"ttys\n")
        terminal.expect("/dev/")
        terminal.expect("three-ttys")
        eventually(lambda: terminal.ask("stty size\n", "24 80"), what="the size")
        eventually(lambda: terminal.resized(50, 132), what="the resize")
        terminal.send("exit 5\n")
        assert process.wait(PATIENCE) == 5
        assert terminal.is_sane()


def test_stdin_of_a_container(engine, name):
    data = os.urandom(20 * MIB)
    told = engine.run(name, "cat", input=data).ok()
    assert len(told.out) == len(data)
    assert hashlib.sha256(told.out).digest() == hashlib.sha256(data).digest()


@pytest.mark.own_shim("runc's shim wants every stream")
def test_output_goes_before_the_end(engine, name, tmp_path):
    """ctr throws away what it has not read when it hears of the end."""
    tasks, fifo = Api(engine, TASKS), tmp_path / "out"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    process = json.dumps({"args": ["sh", "-c", "echo 1; echo 2; echo 3"], "cwd": "/",
                          "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}})
    kind = "types.containerd.io/opencontainers/runtime-spec/1/Process"
    with engine.detached(name, "sleep", "100000"):
        for number in range(20):
            names = {"container_id": name, "exec_id": f"e{number}"}
            tasks.Exec(**names, stdout=str(fifo), any_spec=(kind, process.encode()))
            tasks.Start(**names)
            tasks.Wait(**names)
            assert os.read(reader, 100) == b"1\n2\n3\n"
            tasks.DeleteProcess(**names)
        names["exec_id"] = "parent"  # but nobody waits for what a child may write
        process = process.replace("echo 3", "sleep 1000 &")
        tasks.Exec(**names, stdout=str(fifo), any_spec=(kind, process.encode()))
        tasks.Start(**names)
        start = time.monotonic()
        tasks.Wait(**names)
        assert time.monotonic() - start < 4 and os.read(reader, 100) == b"1\n2\n"
    os.close(reader)


def test_process_options(engine, name):
    told = engine.run(
        name, "sh", "-c", 'echo "$A:$PWD:$(id -un)"; sed -n "s/^CapBnd:.//p" /proc/self/status',
        options=["--env", "A=one two", "--cwd", "/home/alice", "--cap-add", "CAP_SYS_NICE"],
        image=ALICE).ok()
    assert told.lines[0] == "one two:/home/alice:alice"
    bounding = int(told.lines[1], 16)
    assert bounding >> 23 & 1, "CAP_SYS_NICE was asked for"
    assert not bounding >> 21 & 1, "CAP_SYS_ADMIN was not"


def test_mounts(engine, name, tmp_path):
    for folder in ("ro", "rw"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "there").write_text("from the host\n")
    told = engine.run(
        name, "sh", "-c", """
        cat /mnt/ro/there /mnt/rw/there; touch /mnt/ro/x 2>/dev/null || echo refused
        touch /x 2>/dev/null || echo refused; echo from the container > /mnt/rw/made""",
        options=["--read-only", *sum([["--mount", f"type=bind,src={tmp_path}/{mode},"
                                       f"dst=/mnt/{mode},options=rbind:{mode}"]
                                      for mode in ("ro", "rw")], [])]).ok()
    assert told.lines == ["from the host"] * 2 + ["refused"] * 2
    assert (tmp_path / "rw" / "made").read_text() == "from the container\n"
    assert sorted(os.listdir(tmp_path / "ro")) == ["there"]


@pytest.mark.parametrize("snapshotter", ["overlayfs", "native"])
def test_snapshotters(engine, name, snapshotter):
    for number in (1, 2):  # the second container does not see the first one's file
        told = engine.run(f"{name}-{number}", "sh", "-c",
                          "ls /new; rm /bin/vi; echo new > /new; cat /new",
                          options=["--snapshotter", snapshotter]).ok()
        assert told.out == b"new\n" and b"/new" in told.err, str(told)


def test_rootfs_folder(engine, name, layer, tmp_path):
    rootfs = images.unpack(layer, tmp_path / "rootfs")
    told = engine.run(name, "sh", "-c", "ls -d /work; echo new > /work/new",
                      options=["--rootfs", "--env", "PATH=/bin"], image=rootfs).ok()
    assert told.out == b"/work\n" and (rootfs / "work" / "new").read_text() == "new\n"


def test_output_to_a_file(engine, name, tmp_path):
    log = tmp_path / "log"
    told = engine.run(name, "sh", "-c", "echo out; echo err >&2",
                      options=["--log-uri", f"file://{log}"]).ok()
    assert told.out == b""
    assert sorted(log.read_text().splitlines()) == ["err", "out"]


def test_output_to_a_program(engine, name, tmp_path):
    logger = tmp_path / "logger"
    logger.write_text("""#!/bin/sh
        echo "$@" $CONTAINER_ID $CONTAINER_NAMESPACE > $2/arguments
        exec 5>&-  # tells that it is ready
        cat <&3 > $2/out & cat <&4 > $2/err &
        wait\n""")
    logger.chmod(0o755)
    told = engine.run(name, "sh", "-c", "echo out; echo err >&2",
                      options=["--log-uri", f"binary://{logger}?folder={tmp_path}"]).ok()
    assert told.out == b""
    assert eventually(lambda: (tmp_path / "err").read_text(), what="the log") == "err\n"
    assert eventually(lambda: (tmp_path / "out").read_text(), what="the log") == "out\n"
    assert (tmp_path / "arguments").read_text() == \
        f"folder {tmp_path} {name} {engine.namespace}\n"


@pytest.mark.vm_only  # runc's shim lets one that ends at once pass
@pytest.mark.parametrize("script, words, seconds", [
    ("exec sleep 1000", "was not ready", 15), ("exit 3", "ended at once, with code 3", 5)])
def test_logging_program_that_fails(engine, name, tmp_path, script, words, seconds):
    logger = tmp_path / "logger"
    logger.write_text(f"#!/bin/sh\n{script}\n")
    logger.chmod(0o755)
    start = time.monotonic()
    told = engine.run(name, "true", options=["--log-uri", f"binary://{logger}"])
    assert told.code == 1 and words in told.error and str(logger) in told.error, str(told)
    assert time.monotonic() - start < seconds
    assert not engine.named("sleep")


def test_logging_program_that_dies(engine, name, tmp_path):
    """The container lives on; who writes then gets what the writer of a broken pipe gets."""
    logger = tmp_path / "logger"
    logger.write_text("#!/bin/sh\nexec 5>&-\nread line <&3\nexit 1\n")
    logger.chmod(0o755)
    with engine.detached(name, "sh", "-c", "echo before; sleep 1; echo after; exec sleep 100000",
                         options=["--log-uri", f"binary://{logger}"]):
        time.sleep(2)
        assert engine.status(name) == "RUNNING"
        engine.exec(name, "true").ok()


def test_no_streams(engine, name):
    told = engine.run(name, "sh", "-c", "cat; echo out; echo err >&2; exit 4",
                      options=["--null-io"], input=b"nobody reads this").ok(4)
    assert told.out == b"" and told.err == b""


def test_cni(engine, name):
    engine.run(name, "sh", "-c", "exit 6", options=["--cni"]).ok(6)


def test_cni_address(engine, name):
    told = engine.run(name, "ip", "-4", "addr", "show", "eth0", options=["--cni"]).ok()
    assert re.search(r"inet 10\.202\.0\.\d+/24", told.text), str(told)


@pytest.mark.own_shim("the daemon is asked")
def test_network_is_inspected_and_counted(engine, name):
    with engine.detached(name, "sh", "-c", "exec sleep 100000", options=["--cni"]):
        eventually(lambda: engine.exec(name, "ping", "-c", "1", "10.202.0.1").code == 0,
                   what="the network")
        told = json.loads(subprocess.run(
            engine.inside(PROGRAM, "--config", engine.config, "inspect", name),
            check=True, capture_output=True, timeout=PATIENCE).stdout)
        assert told["containers"] == [name]
        interface, = told["network"]["interfaces"]
        assert (interface["name"], interface["kind"]) == ("eth0", "veth")
        assert interface["nic"]["plugged"] and told["network"]["forwards_ports"]
        metrics = json.loads(engine("task", "metrics", "--format", "json", name).ok().out)
        counted, = metrics["network"]
        assert counted["name"] == "eth0"
        assert counted["rx_packets"] > 0 and counted["tx_bytes"] >= 84
    refused = subprocess.run(engine.inside(PROGRAM, "--config", engine.config, "inspect", name),
                             capture_output=True, text=True, timeout=PATIENCE)
    assert refused.returncode == 125 and f'container "{name}" does not exist' in refused.stderr


@pytest.mark.own_shim("the host's cgroup has the VM")
def test_out_of_memory(engine, name):
    with Events(engine) as events:
        engine.run(name, "sh", "-c", "exec tail /dev/zero",
                   options=["--memory-limit", str(64 * MIB)]).ok(137)
        topics = [topic for topic, _ in events.wait(name, "oom")]
        # runc's shim counts the kernel's notifications, of which there may be more than one.
        assert topics.count("oom") == 1 or engine.name == "runc"
        assert topics.count("exit") == 1


def test_command_that_does_not_exist(engine, name, box):
    told = engine.run(name, "no-such-command")
    assert told.code == 1 and "no-such-command" in told.error, str(told)
    assert "not found" in told.error or "no such file" in told.error, str(told)
    told = engine.exec(box, "no-such-command")
    assert told.code == 1 and "no-such-command" in told.error, str(told)
    engine.exec(box, "true").ok()


def test_name_that_is_taken(engine, box):
    told = engine.run(box, "true")
    assert told.code == 1 and "already exists" in told.error, str(told)
    engine.exec(box, "true").ok()


def test_parallel_runs(engine, name):
    started = [engine.start(*engine.words(f"{name}-{number}", "sh", "-c",
                                          f"sleep 0.5; echo {number}; exit {number}",
                                          options=["--rm"]))
               for number in range(PARALLEL)]
    for number, process in enumerate(started):
        out, err = process.communicate(timeout=PATIENCE * 4)
        assert (process.returncode, out) == (number, b"%d\n" % number), err


@pytest.mark.own_shim("ctr create has no --runc-binary")
def test_cycles(engine, name):
    """The same name again and again, by create, start, kill and delete one by one."""
    for _ in range(CYCLES):
        engine("container", "create", *engine.chosen, IMAGE,
               name, "sleep", "100000").ok()
        engine("task", "start", "-d", name).ok()
        engine.exec(name, "true").ok()
        engine("task", "kill", "-s", "SIGKILL", name).ok()
        eventually(lambda: engine.status(name) == "STOPPED", what="its end")
        assert engine.reap(name) == 137
        engine("container", "rm", name).ok()


# ---- exec
def test_exec(engine, box):
    told = engine.exec(box, "sh", "-c", "echo out; echo err >&2; exit 9").ok(9)
    assert told.out == b"out\n" and told.err == b"err\n"
    engine.exec(box, "sh", "-c", "kill -9 $$").ok(137)
    told = engine.exec(box, "sh", "-c", "id -un; pwd",
                       options=["--user", "1000:1000", "--cwd", "/work"]).ok()
    assert told.lines == ["alice", "/work"]


def test_exec_stdin(engine, box):
    data = os.urandom(20 * MIB)
    told = engine.exec(box, "cat", input=data).ok()
    assert hashlib.sha256(told.out).digest() == hashlib.sha256(data).digest()


def test_copy_by_tar(engine, box, tmp_path):
    """As `kubectl cp` does it: tar at both ends of an exec."""
    data = os.urandom(110 * MIB)
    packed = tmp_path / "in.tar"
    (tmp_path / "copied").write_bytes(data)
    subprocess.run(["tar", "-cf", packed, "-C", tmp_path, "copied"], check=True, timeout=60)
    with open(packed, "rb") as archive:
        process = engine.start(*engine.exec_words(box, "tar", "-xmf", "-", "-C", "/work"),
                               stdin=archive)
        assert process.communicate(timeout=2 * PATIENCE) == (b"", b"")
        assert process.returncode == 0
    told = engine.exec(box, "sha256sum", "/work/copied").ok().text.split()[0]
    assert told == hashlib.sha256(data).hexdigest()
    with open(tmp_path / "out.tar", "wb") as archive:
        process = engine.start(*engine.exec_words(box, "tar", "-cf", "-", "-C", "/work", "copied"),
                               stdout=archive)
        assert process.communicate(timeout=2 * PATIENCE)[1] == b""
        assert process.returncode == 0
    with tarfile.open(tmp_path / "out.tar") as archive:
        assert archive.extractfile("copied").read() == data
    engine.exec(box, "rm", "/work/copied").ok()


def test_exec_terminal(engine, box):
    with Terminal(rows=30, columns=100) as terminal:
        process = engine.start(*engine.exec_words(box, "sh", options=["-t"]),
                               **terminal.streams())
        eventually(lambda: terminal.ask("stty size\n", "30 100"), what="the size")
        eventually(lambda: terminal.resized(20, 60), what="the resize")
        terminal.send("exit 6\n")
        assert process.wait(PATIENCE) == 6
        assert terminal.is_sane()


def test_kill_of_an_exec(engine, box):
    process = engine.start("task", "exec", "--exec-id", "victim", box, "sh", "-c",
                           "echo ready; exec sleep 1000")
    assert process.stdout.readline() == b"ready\n"
    engine("task", "kill", "-s", "SIGTERM", "--exec-id", "victim", box).ok()
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signal.SIGTERM
    assert engine.status(box) == "RUNNING"


# ---- what is done to a task
def test_kill(engine, name):
    process = engine.running(name, f"trap 'echo usr' USR1; echo ready; {LOOP}")
    engine("task", "kill", "-s", "SIGUSR1", name).ok()
    assert process.stdout.readline() == b"usr\n"
    engine("task", "kill", "-s", "SIGKILL", name).ok()
    assert process.communicate(timeout=PATIENCE)[0] == b"" and process.returncode == 137


def test_kill_all(engine, name):
    """Without --all a signal is for the first process alone."""
    process = engine.running(name, f"""
        trap 'echo main' USR1; sh -c "trap 'echo child' USR1; echo ready; {LOOP}" & {LOOP}""")
    engine("task", "kill", "-s", "SIGUSR1", name).ok()
    assert process.stdout.readline() == b"main\n"
    engine("task", "kill", "--all", "-s", "SIGUSR1", name).ok()
    assert {process.stdout.readline(), process.stdout.readline()} == {b"main\n", b"child\n"}
    engine("task", "kill", "--all", "-s", "SIGKILL", name).ok()
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 137


def test_pause(engine, name, tmp_path):
    log = tmp_path / "log"
    with engine.detached(name, "sh", "-c", "while :; do echo x; sleep 0.05; done",
                         options=["--log-uri", f"file://{log}"]):
        eventually(lambda: log.stat().st_size, what="output")
        engine("task", "pause", name).ok()
        assert engine.status(name) == "PAUSED"
        time.sleep(0.3)  # what was under way
        size = log.stat().st_size
        time.sleep(1)
        assert log.stat().st_size == size, "a paused container wrote"
        engine("task", "resume", name).ok()
        assert engine.status(name) == "RUNNING"
        eventually(lambda: log.stat().st_size > size, what="output after the pause")


def usage(engine, name):
    """CPU seconds, bytes of memory and processes, from metrics of either cgroup version."""
    metrics = json.loads(engine("task", "metrics", "--format", "json", name).ok().out)
    processor = metrics["cpu"]
    seconds = (processor["usage"]["total"] / 1e9 if "usage" in processor
               else processor["usage_usec"] / 1e6)
    memory = metrics["memory"]["usage"]
    return (seconds, memory["usage"] if isinstance(memory, dict) else memory,
            metrics["pids"]["current"])


@pytest.mark.vm_only  # how many there are
def test_namespaces_of_another(engine, name):
    """A container that asks for another's namespaces is in its virtual machine."""
    with engine.detached(name, "sh", "-c", "hostname joined; exec sleep 100001"):
        pid = engine("task", "ls").ok().text.split(name)[1].split()[0]
        before = set(engine.named("qemu-system"))
        told = engine.run(f"{name}-joined", "sh", "-c", "ps; for pid in self 1; do readlink /proc/$pid/ns/ipc; "
                          "done", options=[
                              "--with-ns", f"pid:/proc/{pid}/ns/pid",
                              "--with-ns", f"ipc:/proc/{pid}/ns/ipc",
                              "--with-ns", f"network:/proc/{pid}/ns/net"]).ok()
        assert "sleep 100001" in told.text and len(set(told.lines[-2:])) == 1, told
        assert set(engine.named("qemu-system")) == before
        engine.exec(name, "true").ok()  # the other's end is not its own
    told = engine.run(f"{name}-none", "true", options=["--with-ns", "ipc:/proc/1/ns/ipc"])
    assert told.code != 0 and "/proc/1/ns/ipc belongs to no container" in told.error
    told = engine.run(f"{name}-host", "true", options=["--net-host"])
    assert told.code != 0 and "the host's own network" in told.error


@pytest.mark.vm_only
def test_a_second_life_beside_who_joined_the_first(engine, name):
    """What is left of the first pod is the other's: the container gets a new one."""
    with contextlib.ExitStack() as others:
        with engine.detached(name, "sleep", "100002"):
            pid = engine("task", "ls").ok().text.split(name)[1].split()[0]
            others.enter_context(engine.detached(f"{name}-other", "sleep", "100003", options=[
                "--with-ns", f"ipc:/proc/{pid}/ns/ipc"]))
        before = set(engine.named("qemu-system"))
        with engine.detached(name, "sleep", "100004"):
            assert len(set(engine.named("qemu-system")) - before) == 1
        engine.exec(f"{name}-other", "true").ok()


@pytest.mark.own_shim("the host's cgroup has the VM")
def test_metrics(engine, name):
    script = """
        while [ ! -e /go ]; do sleep 0.1; done
        dd if=/dev/zero of=/dev/shm/fill bs=1M count=40 2>/dev/null
        end=$(($(date +%s) + 3)); while [ $(date +%s) -lt $end ]; do :; done
        touch /done; exec sleep 100000"""
    with engine.detached(name, "sh", "-c", script):
        before, start = usage(engine, name), time.monotonic()
        assert before[0] < 10 and 0 < before[1] < 512 * MIB and before[2] in (1, 2), before
        engine.exec(name, "touch", "/go").ok()
        eventually(lambda: engine.exec(name, "ls", "/done").code == 0, what="the work")
        after, elapsed = usage(engine, name), time.monotonic() - start
        burnt = after[0] - before[0]
        assert 0.3 < burnt < elapsed * os.cpu_count(), (before, after)
        assert 36 * MIB < after[1] - before[1] < 120 * MIB, (before, after)
        assert after[2] == 1, after
        table = engine("task", "metrics", name).ok().text
        assert "memory.usage" in table and "cpu" in table


@pytest.mark.own_shim("the host has the stand-ins alone")
def test_ps(engine, name):
    with engine.detached(name, "sleep", "100000"):
        first = {line.split()[0] for line in engine("task", "ps", name).ok().lines[1:]}
        assert len(first) == 1
        process = engine.start(*engine.exec_words(name, "sh", "-c", "echo ready; cat; true"),
                               stdin=subprocess.PIPE)
        assert process.stdout.readline() == b"ready\n"
        more = {line.split()[0] for line in engine("task", "ps", name).ok().lines[1:]}
        assert len(more) == 3 and first < more
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 0


def test_events(engine, name):
    """All of them, in order, each once."""
    with Events(engine) as events:
        with engine.detached(name, "sleep", "100000"):
            engine("task", "exec", "--exec-id", "extra", name, "sh", "-c", "exit 5").ok(5)
            engine("task", "pause", name).ok()
            engine("task", "resume", name).ok()
            engine("task", "kill", "-s", "SIGKILL", name).ok()
            events.wait(name, "exit")
            eventually(lambda: engine.status(name) == "STOPPED", what="its end")
            assert engine.reap(name) == 137
        seen = events.wait(name, "delete")
        time.sleep(0.5)  # for what would be too many
        assert events.of(name) == seen
    assert [topic for topic, _ in seen] == [
        "create", "start", "exec-added", "exec-started", "exit", "paused", "resumed", "exit",
        "delete"]
    create, start, added, started, first, _, _, last, delete = [payload for _, payload in seen]
    assert create["bundle"].endswith(name) and create["pid"] == start["pid"] > 0
    assert added["exec_id"] == started["exec_id"] == first["id"] == "extra"
    assert started["pid"] == first["pid"] > 0 and first["exit_status"] == 5
    assert last["id"] == name and last["pid"] == start["pid"]
    assert last["exit_status"] == delete["exit_status"] == 137
    assert last["exited_at"] == delete["exited_at"]


def test_checkpoint(engine, box):
    """None of the runtimes here can; the refusal harms nothing."""
    told = engine("task", "checkpoint", box)
    assert told.code == 1 and len(told.error.strip().splitlines()) == 1, str(told)
    words = ("not implemented", "not supported", "unimplemented", "criu")
    assert any(word in told.error.lower() for word in words), str(told)
    assert engine.status(box) == "RUNNING"
    engine.exec(box, "true").ok()
