"""One more process in a container."""

import hashlib
import os

from engine import IMAGE
from host import PATIENCE, eventually
from terminal import Terminal

MIB = 1 << 20


def test_exec(engine, same, box):
    told = engine.exec(box, "sh", "-c", "echo out; echo err >&2; exit 9")
    same("exit code", told.code, 9)
    same("streams", (told.text, told.error), ("out\n", "err\n"))


def test_exec_killed(engine, same, box):
    same("exit code", engine.exec(box, "sh", "-c", "kill -9 $$").code, 137)


def test_exec_process(engine, same, box):
    told = engine.exec(box, "sh", "-c", 'echo "$A|$PWD|$(id -un)|$(id -G)"',
                       options=["-e", "A=one two", "-u", "alice", "-w", "/work"]).ok()
    same("process", told.text, "one two|/work|alice|1000 29\n")


def test_exec_stdin(engine, same, box):
    data = os.urandom(5 * MIB)
    told = engine.exec(box, "sha256sum", options=["-i"], input=data).ok()
    same("digest fits", told.text.split()[0] == hashlib.sha256(data).hexdigest(), True)
    same("bytes back", engine.exec(box, "cat", options=["-i"], input=data).ok().out == data, True)


def test_exec_terminal(engine, same, box):
    with Terminal(rows=30, columns=100) as terminal:
        process = engine.start("exec", "-it", box, "sh", **terminal.streams())
        eventually(lambda: terminal.ask("stty size\n", "30 100"), what="the size")
        eventually(lambda: terminal.resized(20, 60), what="the resize")
        terminal.send("exit 6\n")
        same("exit code", process.wait(PATIENCE), 6)
        assert terminal.is_sane()


def test_exec_detached(engine, same, box):
    engine.exec(box, "sh", "-c", "sleep 0.5; touch /tmp/detached", options=["-d"]).ok()
    eventually(lambda: engine.exec(box, "ls", "/tmp/detached").code == 0, what="the file")
    same("exit code", engine.exec(box, "rm", "/tmp/detached").code, 0)


def test_exec_of_a_bad_command(engine, same, box):
    for command in ("no-such-command", "/etc/passwd"):
        told = engine.exec(box, command)
        assert told.code in (126, 127), str(told)
        same(f"exit code of {command}", told.code)
        same(f"{command} is named", command in told.text + told.error, True)


def test_exec_in_an_ended_one(engine, same, name):
    with engine.detached(name, IMAGE, "true"):
        engine.ended(name)
        told = engine.exec(name, "true")
        same("exit code", told.code)
        same("fails", told.code != 0 and "running" in told.error.lower(), True)
