"""`exec`, `ps` and `logs` in one container that runs for the whole session."""

import os
import signal
import threading
import time

import pytest
from host import PATIENCE, eventually
from terminal import Terminal


def end_command(shared, box, words):
    """TERM to the processes with these words in their command line (busybox has no pkill)."""
    script = f"ps -o pid,args | awk '/{words}/ && !/awk/ {{ print $1 }}' | xargs kill"
    return shared("exec", box, "sh", "-c", script)


def test_exit_codes(shared, box):
    shared("exec", box, "true").ok(0)
    shared("exec", box, "sh", "-c", "exit 7").ok(7)
    shared("exec", box, "sh", "-c", "kill -9 $$").ok(137)
    shared("exec", box, "sh", "-c", "kill -TERM $$").ok(143)
    shared("exec", box, "no-such-command").fails("no-such-command", code=127)
    shared("exec", box, "/etc/passwd").fails("/etc/passwd", code=126)


def test_streams(shared, box):
    data = os.urandom(3_000_000)
    told = shared("exec", "-i", box, "tee", "/dev/fd/2", input=data)
    assert told.code == 0 and told.out == data and told.err == data
    assert shared("exec", box, "cat", input=b"not for the container").ok().out == b""


def test_stdin_that_nobody_reads(shared, box):
    """A command that ends without reading does not hang the client."""
    told = shared("exec", "-i", box, "sh", "-c", "exit 4", input=b"x" * (8 << 20))
    assert told.code == 4, str(told)


def test_environment_user_and_folder(shared, box):
    told = shared("exec", "-e", "A=b c", "-u", "alice", "-w", "/work", box, "sh", "-c",
                  'echo "$A"; id -un; pwd; echo $HOME').ok()
    assert told.lines == ["b c", "alice", "/work", "/home/alice"]


def test_same_container(shared, box):
    """What one command does, the next one sees: files, processes, host name."""
    shared("exec", box, "sh", "-c", "echo here > /tmp/left; hostname > /tmp/name").ok()
    script = "cat /tmp/left; [ $(cat /tmp/name) = $(hostname) ] && echo same; pidof sleep"
    told = shared("exec", box, "sh", "-c", script).ok()
    assert told.lines[:2] == ["here", "same"] and told.lines[2]


def test_terminal(shared, box):
    with Terminal(rows=30, columns=100) as terminal:
        process = shared.start("exec", "-it", box, "sh", **terminal.streams())
        terminal.send("stty size\n")
        terminal.expect("30 100")
        terminal.resize(20, 60)
        eventually(lambda: terminal.ask("stty size\n", "20 60"), what="the resize")
        terminal.send("exit 6\n")
        assert process.wait(PATIENCE) == 6
        assert terminal.is_sane()


def test_many_at_once(shared, box):
    """Twenty commands side by side, each with its own output and exit code."""
    results = {}

    def one(number):
        script = f"sleep 0.2; echo {number}; exit {number}"
        results[number] = shared("exec", box, "sh", "-c", script, timeout=PATIENCE * 3)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(1, 21)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE * 3)
    for number in range(1, 21):
        assert results[number].ok(number).out == b"%d\n" % number


def test_ps(shared, box):
    process = shared.start("exec", box, "sleep", "54321")
    eventually(lambda: "sleep 54321" in shared("ps", box).ok().text, what="the list to have it")
    assert "sleep 100000" in shared("ps", box).ok().text
    end_command(shared, box, "sleep 54321").ok()
    assert process.wait(PATIENCE) == 143
    process.communicate(timeout=10)


@pytest.mark.parametrize("signal_name", ["INT", "TERM", "KILL"])
def test_client_that_goes_away(shared, box, signal_name):
    """Signals reach the command; a client that is killed does not leave the container unusable."""
    process = shared.start("exec", box, "sh", "-c", "echo ready; exec sleep 77777")
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(getattr(signal, "SIG" + signal_name))
    process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    if signal_name == "KILL":  # as with docker: the command in the container may live on
        end_command(shared, box, "sleep 77777")
    eventually(lambda: "sleep 77777" not in shared("ps", box).ok().text, what="the command's end")


def test_slow_reader_holds_up_only_itself(shared, box):
    """A client that does not read its output does not stall another one."""
    stalled = shared.start("exec", box, "sh", "-c", "yes | head -c 50000000")
    time.sleep(1)
    shared("exec", box, "echo", "quick").ok()
    size = 0
    while block := stalled.stdout.read(1 << 20):
        size += len(block)
    assert stalled.wait(PATIENCE) == 0 and size == 50_000_000
    stalled.communicate(timeout=10)


def test_no_zombies_after_all_this(shared, box):
    told = shared("exec", box, "sh", "-c",
                  "grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null | wc -l").ok()
    assert told.out == b"0\n"


def test_logs_of_a_quiet_container(shared, box):
    assert shared("logs", box).ok().out == b"", "what exec writes is not the container's log"


def test_list(shared, box):
    assert any(box in line for line in shared("list").ok().lines)
