"""Running a container: how it ends, its streams, its terminal, what its process is given."""

import hashlib
import os
import subprocess
import time

from engine import ALICE, IMAGE
from host import PATIENCE, eventually
from terminal import Terminal

MIB = 1 << 20


def test_exit_codes(engine, same):
    engine.run(IMAGE, "true").ok()
    told = engine.shell("exit 7")
    same("exit code", told.code, 7)


def test_streams(engine, same):
    told = engine.shell("echo out; echo err >&2")
    same("stdout", told.text, "out\n")
    same("stderr", told.error, "err\n")


def test_bad_command(engine, same):
    for command, code in (("no-such-command", 127), ("/etc/passwd", 126)):
        told = engine.run(IMAGE, command)
        same(f"exit code of {command}", told.code, code)
        same(f"{command} is named", command in told.error, True)


def test_stdin(engine, same):
    data = os.urandom(5 * MIB)
    told = engine.run("-i", IMAGE, "sha256sum", input=data).ok()
    same("digest fits", told.text.split()[0] == hashlib.sha256(data).hexdigest(), True)


def test_stdin_and_back(engine, same):
    data = os.urandom(5 * MIB)
    told = engine.run("-i", IMAGE, "cat", input=data).ok()
    same("bytes back", told.out == data, True)


def test_terminal(engine, same):
    with Terminal(rows=24, columns=80) as terminal:
        process = engine.start("run", "--rm", "-it", IMAGE, "sh", **terminal.streams())
        terminal.send("[ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo three-\"\"ttys\n")
        terminal.expect("three-ttys")
        eventually(lambda: terminal.ask("stty size\n", "24 80"), what="the size")
        eventually(lambda: terminal.resized(50, 132), what="the resize")
        terminal.send("exit 5\n")
        same("exit code", process.wait(PATIENCE), 5)
        assert terminal.is_sane()


def test_interrupt_from_the_terminal(engine, same):
    with Terminal(rows=24, columns=80) as terminal:
        process = engine.start("run", "--rm", "-it", IMAGE, "sh", "-c",
                               "trap 'echo int; exit 9' INT; echo ready; while :; do sleep 0.1; done",
                               **terminal.streams())
        terminal.expect("ready")
        terminal.send("\x03")
        terminal.expect("int")
        same("exit code", process.wait(PATIENCE), 9)


def test_detach_and_attach(engine, same, name):
    with Terminal(rows=24, columns=80) as terminal, \
            engine.detached(name, "-it", IMAGE, "sh", "-c", "read a; echo got-$a; exit 4"):
        process = engine.start("attach", name, **terminal.streams())
        eventually(lambda: not terminal.is_sane(), what="the client's raw mode")
        for key in "\x10\x11":  # Podman does not know them when it reads both at once
            terminal.send(key)
            time.sleep(0.5)
        same("exit code of the detached client", process.wait(PATIENCE))
        assert engine.state_of(name)["Running"]
        process = engine.start("attach", name, **terminal.streams())
        terminal.send("word\n")
        terminal.expect("got-word")
        same("exit code of attach", process.wait(PATIENCE))
        same("exit code", engine.ended(name), 4)


def test_attach_to_pipes(engine, same, name):
    with engine.detached(name, "-i", IMAGE, "sh", "-c",
                         "read a; echo out-$a; echo err-$a >&2; read b; exit 6"):
        process = engine.start("attach", name, stdin=subprocess.PIPE)
        process.stdin.write(b"word\n")
        process.stdin.flush()
        same("stdout", process.stdout.readline(), b"out-word\n")
        same("stderr", process.stderr.readline(), b"err-word\n")
        process.communicate(b"end\n", timeout=PATIENCE)
        same("exit code of attach", process.returncode)
        same("exit code", engine.ended(name), 6)


def test_logs(engine, same, name):
    with engine.detached(name, IMAGE, "sh", "-c",
                         "for i in 1 2 3; do echo out $i; echo err $i >&2; done; printf end"):
        same("exit code", engine.ended(name), 0)
        told = engine("logs", name).ok()
        same("stdout", told.text, "out 1\nout 2\nout 3\nend")
        same("stderr", told.error, "err 1\nerr 2\nerr 3\n")
        same("followed", engine("logs", "-f", name).ok().text, told.text)


def test_logs_of_a_running_one(engine, same, name):
    with engine.script(name, "echo first; while [ ! -e /go ]; do sleep 0.1; done; echo last"):
        process = engine.start("logs", "-f", name)
        same("first line", process.stdout.readline(), b"first\n")
        engine.exec(name, "touch", "/go").ok()
        out, _ = process.communicate(timeout=PATIENCE)
        same("last line", out, b"last\n")


def test_environment(engine, same):
    told = engine.shell('echo "$A|$B|$PWD|$(hostname)|$HOME"; cat /etc/hostname',
                        "-e", "A=one two", "-e", "B=", "-w", "/work", "--hostname", "there").ok()
    same("process", told.lines, ["one two||/work|there|/root", "there"])


def test_names_of_hosts(engine, same):
    told = engine.shell("cat /etc/resolv.conf; grep 10.1.2.3 /etc/hosts", "--dns", "10.9.8.7",
                        "--dns-search", "example.org", "--add-host", "other:10.1.2.3").ok()
    words = told.text.split()
    same("resolver", {"10.9.8.7", "example.org"} <= set(words), True)
    same("host", words[-2:], ["10.1.2.3", "other"])


def test_users(engine, same):
    # runc 1.3 sets a group twice that Docker names twice.
    groups = "$(id -G | tr ' ' '\\n' | sort -nru | xargs)"
    script = f'echo "$(id -u):$(id -g):{groups}:$HOME"'
    same("of the image", engine.run(ALICE, "sh", "-c", script).ok().text.strip(),
         "1000:1000:1000 29:/home/alice")
    same("by number", engine.shell(script, "-u", "1234:5678", "--group-add", "77").ok().text
         .strip(), "1234:5678:5678 77:/")
    same("by name", engine.shell(script, "-u", "alice", "--group-add", "audio").ok().text.strip(),
         "1000:1000:1000 29:/home/alice")


def test_entry_point(engine, same):
    told = engine.run("--entrypoint", "echo", IMAGE, "-n", "a", "b").ok()
    same("output", told.text, "a b")


def test_first_process(engine, same, name):
    """With --init a signal that a program leaves to the kernel ends it, though it is the first."""
    same("number without", engine.shell("echo $$").ok().text, "1\n")
    with engine.script(name, "echo $$; exec sleep 1000", "--init"):
        same("is the first", engine("logs", name).ok().text == "1\n", False)
        engine("kill", "-s", "TERM", name).ok()
        same("exit code", engine.ended(name), 143)


def test_kernel_parameters(engine, same):
    told = engine.shell("cat /proc/sys/net/core/somaxconn /proc/sys/kernel/shmmni",
                        "--sysctl", "net.core.somaxconn=513", "--sysctl", "kernel.shmmni=77").ok()
    same("values", told.lines, ["513", "77"])


def test_output_that_nobody_reads(engine, same, name):
    """A client that goes away does not end a container that was not told to end with it."""
    process = engine.start("run", "--name", name, "--sig-proxy=false", IMAGE, "sh", "-c",
                           "echo ready; while [ ! -e /go ]; do sleep 0.1; done; "
                           "dd if=/dev/zero bs=64k count=40 2>/dev/null; exit 8",
                           stderr=subprocess.DEVNULL)
    try:
        assert process.stdout.readline() == b"ready\n"
        process.kill()
        process.communicate(timeout=PATIENCE)
        engine.exec(name, "touch", "/go").ok()
        same("exit code", engine.ended(name), 8)
    finally:
        engine.remove(name)
