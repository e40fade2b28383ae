"""`bulkhead run`: what a container sees, gets and returns. Each test boots few guests."""

import hashlib
import os
import signal
import subprocess
import threading
import time

import images
import pytest
from host import PATIENCE, ROOT, eventually
from terminal import Terminal

DOCKER_CAPABILITIES = "00000000a80425fb"


def fields(text):
    """NAME=VALUE lines as a dictionary."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def test_first_container(shared, busybox):
    before = images.fingerprint(busybox)
    told = shared.shell(busybox, """
        echo kernel=$(uname -r); echo hostname=$(hostname); echo user=$(id -u):$(id -g)
        echo folder=$(pwd); echo pid=$$; echo processes=$(ls -d /proc/[0-9]* | wc -l)
        echo zombies=$(grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l)
        echo capabilities=$(sed -n 's/^CapEff:.//p' /proc/self/status)
        echo seccomp=$(sed -n 's/^Seccomp:.//p' /proc/self/status)
        echo new > /made-in-the-container; rm /bin/vi; echo changed > /etc/passwd
        echo masked=$(head -c 1 /proc/kcore 2>/dev/null | wc -c)
        echo sysctl=$(echo 1 2>/dev/null > /proc/sys/kernel/panic && echo written || echo refused)
        echo links=$(ls /sys/class/net | tr '\\n' ' ')
        exit 7""", "--hostname", "first")
    told.ok(7)
    assert told.err == b"", str(told)
    seen = fields(told.text)
    assert seen["kernel"] == (ROOT / "build/kernel/version").read_text().strip()
    assert seen["kernel"] != os.uname().release
    assert seen["hostname"] == "first"
    assert seen["user"] == "0:0" and seen["folder"] == "/" and seen["pid"] == "1"
    assert int(seen["processes"]) <= 4 and seen["zombies"] == "0"
    assert seen["capabilities"] == DOCKER_CAPABILITIES
    assert seen["seccomp"] == "2"
    assert seen["masked"] == "0" and seen["sysctl"] == "refused"
    assert seen["links"].split() == ["eth0", "lo"]
    # The image is as it was, and a second container does not see what the first one wrote.
    assert images.fingerprint(busybox) == before
    again = shared.shell(busybox, "ls /made-in-the-container; ls /bin/vi; head -n 1 /etc/passwd")
    assert again.out == b"/bin/vi\nroot:x:0:0:root:/root:/bin/sh\n", str(again)


def test_rootfs_folder_is_not_modified(shared, rootfs):
    before = images.fingerprint(rootfs)
    told = shared.shell(rootfs, "echo x > /new; rm -r /home; mkdir /etc/more; ls /").ok()
    assert "new" in told.lines and "home" not in told.lines
    assert images.fingerprint(rootfs) == before


def test_oci_layout_folder(shared, busybox_layer, tmp_path):
    upper = images.layer([(images.member("etc/.wh.group"), b""),
                          (images.member("etc/hello"), b"hello\n")])
    layout = images.oci_layout(tmp_path / "layout", [busybox_layer, upper])
    told = shared.shell(layout, "cat /etc/hello; ls /etc/group; stat -c %u:%g /home/alice")
    assert told.out == b"hello\n1000:1000\n", str(told)


def test_command_that_does_not_exist(shared, busybox):
    start = time.monotonic()
    told = shared.run(busybox, "no-such-command", "x")
    told.fails("no-such-command", code=127)
    assert time.monotonic() - start < PATIENCE / 2


@pytest.mark.parametrize("command", ["/etc/passwd", "/etc"])
def test_command_that_cannot_be_executed(shared, busybox, command):
    shared.run(busybox, command).fails(command, code=126)


def test_death_by_signal(shared, busybox):
    """--init passes on how its child ended; process 1 itself cannot kill itself."""
    shared.shell(busybox, "kill -SEGV $$", "--init").ok(128 + 11)


def test_streams_are_separate_and_byte_exact(shared, busybox):
    data = bytes(range(256)) * 1000 + b"no newline at the end"
    told = shared.shell(busybox, "tee /dev/fd/2 | cat", "-i", input=data)
    assert told.code == 0 and told.out == data and told.err == data
    silent = shared.shell(busybox, "cat; echo err >&2", input=b"not for the container")
    assert silent.out == b"" and silent.err == b"err\n", "without -i there is no stdin"


def test_large_stdin(shared, busybox):
    """200 MB through `cat`."""
    chunk, count = os.urandom(1 << 20), 200
    expected, got = hashlib.sha256(), hashlib.sha256()
    process = shared.start("run", "--rm", "-i", busybox, "cat", stdin=subprocess.PIPE)

    def feed():
        for _ in range(count):
            process.stdin.write(chunk)
        process.stdin.close()

    feeder = threading.Thread(target=feed, daemon=True)
    watchdog = threading.Timer(600, process.kill)
    feeder.start()
    watchdog.start()
    for _ in range(count):
        expected.update(chunk)
    while block := process.stdout.read(1 << 20):
        got.update(block)
    assert process.wait(30) == 0, process.stderr.read()
    watchdog.cancel()
    feeder.join(10)
    assert got.hexdigest() == expected.hexdigest()


def test_large_stdout(shared, busybox, tmp_path):
    """1 GiB in numbered blocks: nothing is lost, repeated or out of order."""
    chunk, count = os.urandom((1 << 20) - 5), 1024
    (tmp_path / "chunk").write_bytes(chunk)
    process = shared.start(
        "run", "--rm", "-v", f"{tmp_path}:/data:ro", "--tmpfs", "/fast", busybox, "sh", "-c",
        'cp /data/chunk /fast; i=0; while [ $i -lt 1024 ]; do printf "%05d" $i; cat /fast/chunk; '
        "i=$((i + 1)); done")
    watchdog = threading.Timer(900, process.kill)
    watchdog.start()
    expected, got, size = hashlib.sha256(), hashlib.sha256(), 0
    while block := process.stdout.read(1 << 20):
        got.update(block)
        size += len(block)
    assert process.wait(30) == 0, process.stderr.read()
    watchdog.cancel()
    for number in range(count):
        expected.update(b"%05d" % number)
        expected.update(chunk)
    assert size == count << 20
    assert got.hexdigest() == expected.hexdigest()


def test_a_thousand_children_and_no_zombies(shared, busybox):
    told = shared.shell(busybox, """
        i=0; while [ $i -lt 1000 ]; do busybox true; i=$((i + 1)); done; echo children=$i
        i=0; while [ $i -lt 100 ]; do (sh -c 'sleep 0.1 & sleep 0.1 &' &); i=$((i + 1)); done
        sleep 3
        echo zombies=$(grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l)
        echo sleeping=$(pidof sleep | wc -w)""", "--init", timeout=PATIENCE * 3)
    assert told.ok().out == b"children=1000\nzombies=0\nsleeping=0\n", str(told)


def test_terminal_with_resize(shared, busybox):
    with Terminal(rows=24, columns=80) as terminal:
        process = shared.start("run", "--rm", "-it", busybox, **terminal.streams())
        terminal.send("stty size; tty; [ -t 2 ] && echo three-\"\"ttys\n")
        terminal.expect("24 80")
        terminal.expect("/dev/")
        terminal.expect("three-ttys")
        terminal.resize(50, 132)
        eventually(lambda: terminal.ask("stty size\n", "50 132"), what="the resize")
        terminal.send("cat\n")
        time.sleep(0.5)
        terminal.send("\x03")  # Ctrl-C ends cat, not the shell
        # Ctrl-C also throws away what was typed and not read yet.
        eventually(lambda: terminal.ask("echo still-\"\"here\n", "still-here"), what="the shell")
        terminal.send("exit 5\n")
        assert process.wait(PATIENCE) == 5
        assert terminal.is_sane(), "the terminal was left raw"


def test_environment_user_and_folders(shared, busybox, tmp_path):
    (tmp_path / "vars").write_text("# a comment\nFROM_FILE=1\nBOTH=file\nPLAIN\n")
    (tmp_path / "rw").mkdir(mode=0o777)
    (tmp_path / "rw").chmod(0o777)
    (tmp_path / "ro").mkdir()
    (tmp_path / "ro" / "there").write_text("from the host\n")
    (tmp_path / "file").write_text("one file\n")
    environment = {**shared.environment, "PLAIN": "from here", "TAKEN": "taken"}
    told = shared.shell(
        busybox, """
        env; echo user=$(id -u):$(id -g):$(id -G | tr ' ' ,); echo folder=$(pwd)
        echo root=$(touch /x 2>/dev/null && echo written || echo refused)
        echo temporary=$(touch /scratch/x && df -k /scratch | awk 'NR == 2 { print $2 }')
        echo readonly=$(touch /ro/x 2>/dev/null && echo written || echo refused)
        echo there=$(cat /ro/there); echo single=$(cat /file)
        echo 'from the guest' > /rw/made; echo done=$?
        echo files=$(ulimit -n):$(ulimit -Hn)
        echo caps=$(sed -n 's/^CapBnd:.//p' /proc/self/status)
        echo nnp=$(sed -n 's/^NoNewPrivs:.//p' /proc/self/status)""",
        "-e", "A=one two", "--env", "TAKEN", "-e", "BOTH=option", "--env-file", tmp_path / "vars",
        "-u", "alice", "-w", "/work/deep", "--hostname", "named", "--read-only",
        "--tmpfs", "/scratch:size=8m,mode=1777", "-v", f"{tmp_path}/rw:/rw",
        "-v", f"{tmp_path}/ro:/ro:ro", "-v", f"{tmp_path}/file:/file:ro",
        "--ulimit", "nofile=512:1024", "--cap-drop", "ALL", "--cap-add", "CHOWN",
        "--security-opt", "no-new-privileges", env=environment).ok()
    seen = fields(told.text)
    assert seen["A"] == "one two" and seen["TAKEN"] == "taken" and seen["PLAIN"] == "from here"
    assert seen["FROM_FILE"] == "1" and seen["BOTH"] == "option"
    assert seen["HOSTNAME"] == "named" and seen["HOME"] == "/home/alice"
    assert seen["user"] == "1000:1000:1000,29" and seen["folder"] == "/work/deep"
    assert seen["root"] == "refused" and seen["readonly"] == "refused"
    assert seen["temporary"] == str(8 * 1024)
    assert seen["there"] == "from the host" and seen["single"] == "one file"
    assert seen["done"] == "0" and (tmp_path / "rw" / "made").read_text() == "from the guest\n"
    assert (tmp_path / "rw" / "made").stat().st_uid == 1000
    assert seen["files"] == "512:1024"
    assert seen["caps"] == "0000000000000001" and seen["nnp"] == "1"


def test_seccomp_and_capabilities(shared, busybox):
    """The default filter refuses a user namespace; without the filter it is allowed."""
    script = "unshare -U true 2>/dev/null && echo user=allowed || echo user=refused"
    assert shared.shell(busybox, script).ok().text == "user=refused\n"
    told = shared.shell(
        busybox, script + "; echo filter=$(sed -n 's/^Seccomp:.//p' /proc/self/status)"
        "; mount -t tmpfs x /tmp && echo mount=allowed",
        "--security-opt", "seccomp=unconfined", "--cap-add", "SYS_ADMIN").ok()
    assert fields(told.text) == {"user": "allowed", "filter": "0", "mount": "allowed"}


def test_cpus_and_memory(shared, busybox):
    told = shared.shell(busybox, """
        echo cpus=$(nproc); echo limit=$(cat /sys/fs/cgroup/memory.max)
        echo pids=$(cat /sys/fs/cgroup/pids.max)""",
                        "--cpus", "2", "-m", "96m", "--pids-limit", "50").ok()
    assert fields(told.text) == {"cpus": "2", "limit": str(96 << 20), "pids": "50"}


def test_out_of_memory_is_told(shared, busybox):
    told = shared.shell(busybox, "echo before; exec tail /dev/zero", "-m", "64m")
    told.ok(137)
    assert told.out == b"before\n" and "memory" in told.error, str(told)


def test_image_configuration(shared, busybox_layer, tmp_path):
    image = images.docker_save(tmp_path / "configured.tar", [busybox_layer], {
        "Env": ["PATH=/bin", "FROM_IMAGE=yes", "CHANGED=image"],
        "Entrypoint": ["sh", "-c", 'echo "$0 $@"; env; id -un; pwd'], "Cmd": ["default", "words"],
        "User": "alice:audio", "WorkingDir": "/home/alice"})
    told = shared.run("-e", "CHANGED=option", image).ok()
    assert told.lines[0] == "default words" and told.lines[-2:] == ["alice", "/home/alice"]
    assert "FROM_IMAGE=yes" in told.lines and "CHANGED=option" in told.lines
    told = shared.run("-u", "0:0", "-w", "/", image, "my", "own").ok()
    assert told.lines[0] == "my own" and told.lines[-2:] == ["root", "/"]
    told = shared.run("--entrypoint", "id", image, "-gn").ok()
    assert told.out == b"audio\n"


def test_image_without_a_command(shared, busybox_layer, tmp_path):
    image = images.docker_save(tmp_path / "bare.tar", [busybox_layer], {"Cmd": None})
    shared.run(image).fails("command")


def test_signals_reach_the_container(shared, busybox):
    script = ("trap 'echo interrupted' INT; trap 'echo ended; exit 3' TERM; trap 'echo hup' HUP; "
              "echo ready; while :; do sleep 0.1; done")
    process = shared.start("run", "--rm", busybox, "sh", "-c", script)
    assert process.stdout.readline() == b"ready\n"
    for number, answer in ((signal.SIGINT, b"interrupted\n"), (signal.SIGHUP, b"hup\n"),
                           (signal.SIGTERM, b"ended\n")):
        process.send_signal(number)
        assert process.stdout.readline() == answer
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 3 and out == b"" and err == b""


def test_timeout(shared, busybox):
    start = time.monotonic()
    told = shared.shell(busybox, "trap 'echo asked; exit 0' TERM; while :; do sleep 0.1; done",
                        "--timeout", "2s")
    assert told.code == 124 and told.out == b"asked\n", str(told)
    assert time.monotonic() - start < PATIENCE


def test_timeout_of_what_does_not_listen(shared, busybox):
    """After the stop signal and ten seconds more it is killed."""
    told = shared.run("--timeout", "1s", busybox, "sleep", "10000")
    assert told.code == 124, str(told)


def test_life_of_a_detached_container(host, busybox):
    told = host("run", "-d", "--name", "job", busybox, "sh", "-c",
                "echo out; echo err >&2; while [ ! -e /go ]; do sleep 0.1; done; exit 9").ok()
    assert told.lines == ["job"]
    listed = host("list").ok()
    assert any("job" in line and "running" in line.lower() for line in listed.lines), str(listed)
    assert "job" in host("run", "--name", "job", busybox, "true").fails("job").error
    assert host("rm", "job").code != 0, "a running container is not removed without -f"
    logs = eventually(lambda: (got := host("logs", "job").ok()).out and got, what="the log")
    assert logs.out == b"out\n" and logs.err == b"err\n"
    waiting = host.start("wait", "job")
    time.sleep(0.5)
    assert waiting.poll() is None
    host("exec", "job", "touch", "/go").ok()
    out, _ = waiting.communicate(timeout=PATIENCE)
    assert out.strip() == b"9"
    assert host("exec", "job", "true").code != 0
    assert host("logs", "job").ok().out == b"out\n"
    assert host("wait", "job").ok().out.strip() == b"9", "a second wait has the answer at once"
    host("rm", "job").ok()
    assert "job" not in host("list").ok().text


def test_kill(host, busybox):
    host("run", "-d", "--rm", "--name", "victim", busybox, "sh", "-c",
         "trap 'echo usr' USR1; echo ready; while :; do sleep 0.1; done").ok()
    eventually(lambda: host("logs", "victim").out == b"ready\n", what="its start")
    host("kill", "-s", "USR1", "victim").ok()
    eventually(lambda: host("logs", "victim").out == b"ready\nusr\n", what="the signal")
    waiting = host.start("wait", "victim")
    time.sleep(0.5)
    host("kill", "victim").ok()
    assert waiting.communicate(timeout=PATIENCE)[0].strip() == b"137"
    eventually(lambda: "victim" not in host("list").text, what="its removal (--rm)")


def test_two_at_once(shared, busybox):
    """Containers of the same image, each in a VM of its own, do not see each other."""
    started = [shared.start("run", "--rm", "--hostname", name, busybox, "sh", "-c",
                            "hostname > /tmp/me; sleep 1; cat /tmp/me; ls /tmp | wc -l")
               for name in ("one", "two")]
    for process, name in zip(started, (b"one", b"two")):
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0 and out == name + b"\n1\n", err


def test_debug_shows_the_phases(shared, busybox):
    told = shared.run("--debug", busybox, "echo", "hello").ok()
    assert told.out == b"hello\n"
    assert sum(" ms" in line for line in told.error.splitlines()) >= 3, str(told)


def test_without_kvm_there_is_one_warning(host, busybox):
    """The probe chooses by itself; when it takes emulation it says so once."""
    host.configure(accel="auto")
    told = host.run(busybox, "echo", "hello").ok()
    assert told.out == b"hello\n"
    assert len(told.error.strip().splitlines()) <= 1, str(told)
    if told.err:
        assert "KVM" in told.error
    assert host.run("--accel", "tcg", busybox, "true").ok().err == b"", "asked for: no warning"
