"""What a container may do, and how much of it."""

import json

import pytest
from engine import IMAGE
from host import eventually

CAPABILITIES = "sed -n 's/^Cap\\(Eff\\|Bnd\\):.//p' /proc/self/status"
# The limit that a container sees of either cgroup version: `limit FILE-OF-2 FILES-OF-1`.
LIMIT = """limit() { at=$1; shift; cat /sys/fs/cgroup/$at 2>/dev/null ||
  (cd /sys/fs/cgroup && echo $(cat "$@")); }; """
NET_ADMIN, SYS_ADMIN, CHOWN = 12, 21, 0


def has(mask, *bits):
    return [bool(mask >> bit & 1) for bit in bits]


def test_capabilities(engine, same):
    told = engine.shell(CAPABILITIES).ok()
    same("built in", told.lines)
    told = engine.shell(CAPABILITIES, "--cap-add", "NET_ADMIN", "--cap-drop", "CHOWN").ok()
    same("added and dropped", told.lines)
    for line in told.lines:
        same("NET_ADMIN, CHOWN, SYS_ADMIN", has(int(line, 16), NET_ADMIN, CHOWN, SYS_ADMIN),
             [True, False, False])
    told = engine.shell(CAPABILITIES, "--cap-drop", "ALL").ok()
    same("none", [int(line, 16) for line in told.lines], [0, 0])


def test_capabilities_of_a_user(engine, same):
    told = engine.shell(CAPABILITIES, "-u", "alice").ok()
    same("masks", told.lines)
    assert 0 in [int(line, 16) for line in told.lines], "alice has some"


def test_no_new_privileges(engine, same):
    told = engine.shell("grep NoNewPrivs /proc/self/status", "--security-opt",
                        "no-new-privileges").ok()
    same("status", told.text.split()[-1], "1")


def test_seccomp(engine, same, tmp_path):
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}))
    script = "grep Seccomp: /proc/self/status; mkdir /tmp/a 2>&1; echo $?"
    for what, options, mode, refused in (
            ("built in", [], "2", False), ("custom", [f"seccomp={profile}"], "2", True),
            ("unconfined", ["seccomp=unconfined"], "0", False)):
        told = engine.shell(script, *sum([["--security-opt", each] for each in options], [])).ok()
        same(f"{what}: mode", told.lines[0].split()[-1], mode)
        same(f"{what}: mkdir is refused", "not permitted" in told.text, refused)


def test_ulimits(engine, same):
    told = engine.shell("ulimit -n; ulimit -Hn; ulimit -Hc", "--ulimit", "nofile=100:200",
                        "--ulimit", "core=0:0", "--ulimit", "nproc=4096:4096").ok()
    same("limits", told.lines, ["100", "200", "0"])


def test_memory_limit(engine, same):
    told = engine.shell(LIMIT + "limit memory.max memory/memory.limit_in_bytes", "-m", "96m").ok()
    same("limit", told.text.strip(), str(96 << 20))


def test_out_of_memory(engine, same, name):
    with engine.detached(name, "-m", "64m", "--memory-swap", "64m", IMAGE, "tail", "/dev/zero"):
        same("exit code", engine.ended(name), 137)
        eventually(lambda: not engine.state_of(name)["Running"], what="its end")
        if engine.kind == "docker":  # Podman's monitor does not always see it, even with runc
            same("is told", engine.state_of(name)["OOMKilled"], True)


def test_processors(engine, same):
    told = engine.shell(LIMIT + "limit cpu.max cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us",
                        "--cpus", "0.5").ok()
    same("quota and period", told.text.split(), ["50000", "100000"])


def test_processors_by_number(engine, same):
    told = engine.shell("nproc", "--cpuset-cpus", "0").ok()
    same("number", told.text.strip(), "1")


def test_number_of_processes(engine, same):
    told = engine.shell(LIMIT + """limit pids.max pids/pids.max
        for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 30 & done 2>&1; echo all""",
                        "--pids-limit", "10")
    same("limit", told.lines[0], "10")
    same("more are refused", "fork" in told.text + told.error and "all" not in told.lines, True)


def test_read_only(engine, same):
    told = engine.shell("for at in / /etc /tmp /dev/shm /work; do touch $at/x 2>/dev/null && "
                        "echo $at; done; true", "--read-only", "--tmpfs", "/work").ok()
    same("writable", told.lines)
    assert "/work" in told.lines and "/" not in told.lines and "/etc" not in told.lines


def test_hidden_files(engine, same):
    """What engines mask and make read-only of /proc and /sys."""
    told = engine.shell("cat /proc/kcore 2>/dev/null | head -c 1 | wc -c; ls -A /sys/firmware "
                        "2>/dev/null | wc -l; echo 1 2>/dev/null > /proc/sys/vm/swappiness "
                        "|| echo refused").ok()
    same("facts", told.lines, ["0", "0", "refused"])


def test_devices(engine, same):
    told = engine.shell("head -c 3 /dev/nought | wc -c; [ -c /dev/nought ] && echo device",
                        "--device", "/dev/zero:/dev/nought").ok()
    same("device", told.lines, ["3", "device"])
    told = engine.shell("for each in null zero full random urandom tty; do "
                        "[ -c /dev/$each ] && echo $each; done; ls /dev/fd /dev/pts/ptmx "
                        "> /dev/null && echo links").ok()
    same("built in", told.lines, ["null", "zero", "full", "random", "urandom", "tty", "links"])


def test_privileged(engine, same):
    if engine.kind == "docker" and not may_everything():
        pytest.skip("Docker asks for every capability; this machine's root lacks some")
    told = engine.shell("mount -t tmpfs none /tmp && echo mounted; "
                        "grep Seccomp: /proc/self/status; "
                        "[ -w /proc/sys/vm/swappiness ] && echo writable", "--privileged").ok()
    same("may mount", "mounted" in told.lines, True)
    same("seccomp", told.lines[1].split()[-1], "0")
    same("writable /proc/sys", told.lines[-1], "writable")


def may_everything():
    with open("/proc/self/status") as status:
        mask = next(line.split()[1] for line in status if line.startswith("CapBnd"))
    with open("/proc/sys/kernel/cap_last_cap") as last:
        return int(mask, 16) == (2 << int(last.read())) - 1
