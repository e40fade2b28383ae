"""What is done to containers while they run and when they have ended."""

import hashlib
import io
import json
import os
import tarfile
import time

from engine import IMAGE, WAITS
from host import eventually


def test_signals(engine, same, name):
    with engine.script(name, WAITS):
        engine("kill", "-s", "USR1", name).ok()
        eventually(lambda: "usr" in engine("logs", name).ok().text, what="the trap")
        engine("kill", name).ok()
        same("exit code", engine.ended(name), 137)
        same("words", engine("logs", name).ok().text, "ready\nusr\n")


def test_stop(engine, same, name):
    with engine.script(name, WAITS):
        engine("stop", "-t", "30", name).ok()
        same("exit code", engine.ended(name), 3)
        same("words", engine("logs", name).ok().text, "ready\nterm\n")


def test_stop_with_another_signal(engine, same, name):
    with engine.script(name, "trap 'exit 11' USR1; " + WAITS.partition(";")[2],
                       "--stop-signal", "USR1"):
        engine("stop", "-t", "30", name).ok()
        same("exit code", engine.ended(name), 11)


def test_stop_of_one_that_will_not(engine, same, name):
    with engine.script(name, "trap '' TERM; " + "echo ready; while :; do sleep 0.1; done"):
        start = time.monotonic()
        engine("stop", "-t", "1", name).ok()
        same("waited", time.monotonic() - start >= 1, True)
        same("exit code", engine.ended(name), 137)


def test_start_again(engine, same, name):
    """Its files stay, its processes do not."""
    with engine.script(name, "echo $$ >> /count; wc -l < /count; exec sleep 1000"):
        engine("restart", "-t", "0", name).ok()
        eventually(lambda: engine("logs", name).ok().lines == ["1", "2"], what="its new start")
        engine("kill", name).ok()
        same("exit code", engine.ended(name), 137)
        engine("start", name).ok()
        eventually(lambda: engine("logs", name).ok().lines == ["1", "2", "3"],
                   what="its third start")
        same("runs", engine.state_of(name)["Running"], True)


def test_restart_policy(engine, same, name):
    with engine.detached(name, "--restart", "on-failure:2", IMAGE, "sh", "-c",
                         "echo once; exit 5"):
        eventually(lambda: engine("logs", name).ok().lines == ["once"] * 3, 120, "its restarts")
        eventually(lambda: not engine.state_of(name)["Running"], what="its end")
        same("restarts", engine.inspect(name)["RestartCount"], 2)
        same("exit code", engine.state_of(name)["ExitCode"], 5)


def test_create_and_start(engine, same, name):
    engine("create", "--name", name, IMAGE, "sh", "-c", "echo out; exit 4").ok()
    try:
        same("before", engine.state_of(name)["Status"])
        told = engine("start", "-a", name)
        same("exit code and output", (told.code, told.text), (4, "out\n"))
        # Podman's clean-up comes after the end.
        same("after", eventually(lambda: engine.state_of(name)["Status"] == "exited",
                                 what="the end"), True)
    finally:
        engine.remove(name)


def test_state(engine, same, name):
    with engine.script(name, "echo ready; exec sleep 1000"):
        state = engine.state_of(name)
        same("state", (state["Status"], state["Running"], state["Paused"], state["OOMKilled"]),
             ("running", True, False, False))
        same("has a process on the host", state["Pid"] > 1, True)
        engine("kill", name).ok()
        engine.ended(name)
        state = engine.state_of(name)
        same("state at the end", (state["Status"], state["Running"], state["ExitCode"],
                                  state["Pid"]), ("exited", False, 137, 0))


def test_pause(engine, same, name):
    with engine.script(name, "while :; do echo x; sleep 0.05; done"):
        engine("pause", name).ok()
        same("state", engine.state_of(name)["Status"], "paused")
        time.sleep(0.3)  # what was under way
        size = len(engine("logs", name).ok().out)
        time.sleep(1)
        same("wrote while paused", len(engine("logs", name).ok().out) - size, 0)
        engine("unpause", name).ok()
        eventually(lambda: len(engine("logs", name).ok().out) > size, what="more output")
        same("state after", engine.state_of(name)["Status"], "running")


def test_kill_of_a_paused_one(engine, same, name):
    with engine.script(name, "echo ready; exec sleep 1000"):
        engine("pause", name).ok()
        told = engine("rm", "-f", name)
        same("removed", (told.code, name in engine("ps", "-a").ok().text), (0, False))


def test_top(engine, same, name):
    with engine.script(name, "sleep 1001 & echo ready; wait"):
        told = engine("top", name).ok()
        commands = [line.split()[-2:] for line in told.lines[1:]]
        same("has the child", ["sleep", "1001"] in commands, True)
        same("processes", len(commands), 2)


def test_stats(engine, same, name):
    script = "end=$(($(date +%s) + 3)); echo ready; " \
        "while [ $(date +%s) -lt $end ]; do :; done; exec sleep 1000"
    with engine.script(name, script, "-m", "100m"):
        told = json.loads(engine("stats", "--no-stream", "--format", "json" if
                                 engine.kind == "podman" else "{{json .}}", name).ok().text)
        told = told[0] if isinstance(told, list) else told
        lower = {key.lower(): str(value) for key, value in told.items()}
        used, limit = (lower.get("memusage") or lower["mem_usage"]).split(" / ")
        same("limit", limit.replace("MiB", "").replace("MB", "") in ("100", "104.9"), True)
        same("uses memory", float(used.rstrip("kMGiB")) > 0, True)
        same("processes", int(lower["pids"]) >= 1, True)


def test_update(engine, same, name):
    """A process that needs 100 MiB at once does not get them from 64."""
    hungry = ("dd", "if=/dev/zero", "of=/dev/null", "bs=100M", "count=1")
    with engine.script(name, "echo ready; exec sleep 1000", "-m", "64m", "--memory-swap", "64m"):
        same("before", engine.exec(name, *hungry).code, 137)
        engine("update", "-m", "300m", "--memory-swap", "300m", name).ok()
        same("after", engine.exec(name, *hungry).code, 0)


def test_copy(engine, same, box, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").write_text("from the host\n")
    engine("cp", tmp_path / "in", f"{box}:/tmp/copied").ok()
    same("in", engine.exec(box, "cat", "/tmp/copied/file").ok().text, "from the host\n")
    engine.exec(box, "sh", "-c", "echo from the container > /tmp/copied/made").ok()
    engine("cp", f"{box}:/tmp/copied/made", tmp_path / "out").ok()
    same("out", (tmp_path / "out").read_text(), "from the container\n")
    archive = engine("cp", f"{box}:/tmp/copied", "-").ok().out
    names = tarfile.open(fileobj=io.BytesIO(archive)).getnames()
    same("as an archive", sorted(name.rpartition("/")[2] for name in names),
         ["copied", "file", "made"])
    engine.exec(box, "rm", "-r", "/tmp/copied").ok()


def test_copy_of_much(engine, same, box, tmp_path):
    """Binary data, while it runs; what is copied out was written there."""
    data = os.urandom(40 << 20)
    (tmp_path / "in").write_bytes(data)
    engine("cp", tmp_path / "in", f"{box}:/tmp/much").ok()
    told = engine.exec(box, "sha256sum", "/tmp/much").ok().text.split()[0]
    same("in", told == hashlib.sha256(data).hexdigest(), True)
    engine.exec(box, "sh", "-c", "cat /tmp/much /tmp/much > /tmp/twice").ok()
    engine("cp", f"{box}:/tmp/twice", tmp_path / "out").ok()
    same("out", (tmp_path / "out").read_bytes() == data + data, True)
    engine.exec(box, "rm", "/tmp/much", "/tmp/twice").ok()


def test_copy_when_it_has_ended(engine, same, name, tmp_path):
    with engine.detached(name, IMAGE, "sh", "-c", "echo made > /work/made; rm /bin/vi"):
        engine.ended(name)
        engine("cp", f"{name}:/work/made", tmp_path / "out").ok()
        same("out", (tmp_path / "out").read_text(), "made\n")
        changes = {line for line in engine("diff", name).ok().lines if "/etc" not in line}
        same("changes", {"A /work/made", "D /bin/vi"} <= changes, True)


def test_commit(engine, same, name):
    try:
        with engine.detached(name, IMAGE, "sh", "-c", "echo made > /work/made"):
            engine.ended(name)
            engine("commit", name, f"localhost/{name}").ok()
        told = engine.run(f"localhost/{name}", "cat", "/work/made").ok()
        same("file", told.text, "made\n")
    finally:
        engine("rmi", f"localhost/{name}")


def test_what_is_written_while_it_runs(engine, same, name, tmp_path):
    """Is exported, told as a change, and part of an image."""
    script = "head -c 3000000 /dev/urandom > /work/made; rm /bin/vi; sha256sum < /work/made " \
        "> /work/sum; echo ready; exec sleep 1000"
    try:
        with engine.script(name, script):
            engine("export", "-o", tmp_path / "all.tar", name).ok()
            with tarfile.open(tmp_path / "all.tar") as archive:
                files = {entry.name.removeprefix("./") for entry in archive.getmembers()}
                made = archive.extractfile("work/made").read()
                written = archive.extractfile("work/sum").read().split()[0].decode()
            same("exported", hashlib.sha256(made).hexdigest() == written, True)
            same("left out", "bin/vi" in files, False)
            changes = set(engine("diff", name).ok().lines)
            same("changes", {"A /work/made", "D /bin/vi"} <= changes, True)
            engine("commit", name, f"localhost/{name}").ok()
            same("goes on", engine.state_of(name)["Status"], "running")
        told = engine.run(f"localhost/{name}", "sh", "-c", "sha256sum < /work/made; ls /bin/vi")
        same("committed", told.text.split()[0] == written, True)
        same("without what was removed", told.code != 0, True)
    finally:
        engine("rmi", f"localhost/{name}")


def test_removal_at_the_end(engine, same, name):
    engine.run("--name", name, IMAGE, "sh", "-c", "exit 3").ok(3)
    same("known", name in engine("ps", "-a").ok().text, False)


def test_removal_while_it_runs(engine, same, name):
    with engine.script(name, "echo ready; exec sleep 1000"):
        same("without force", engine("rm", name).code != 0, True)
        engine("rm", "-f", name).ok()
        same("known", name in engine("ps", "-a").ok().text, False)
