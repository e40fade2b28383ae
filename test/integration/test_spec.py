"""What config.json says, looked at from inside the container: each field of the runtime
specification that is done in the guest, and those that are refused. Most tests share one VM: they
look into its first container by exec, or put another one beside it. The table of all fields is
oci/spec_coverage.cc."""

import copy
import json
import os
import stat

import host as host_module
import oci
import pytest

SLEEP = "exec sleep 100000"
KINDS = ("bounding", "effective", "permitted")
CGROUP = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
          "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
SYSFS = {"destination": "/sys", "type": "sysfs", "source": "sysfs",
         "options": ["nosuid", "noexec", "nodev"]}


def main_document():
    document = oci.spec(SLEEP, hostname="whole", domainname="example.org")
    process, linux = document["process"], document["linux"]
    process["user"] = {"uid": 0, "gid": 5, "umask": 0o027, "additionalGids": [29, 31],
                       "username": "root"}
    process["env"].append("WORD=of the spec")
    process["cwd"] = "/made/for/it"
    process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
                          {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]
    process["oomScoreAdj"] = 123
    process["noNewPrivileges"] = True
    process["apparmorProfile"], process["selinuxLabel"] = "a-profile", "a:label"
    process["scheduler"] = {"policy": "SCHED_BATCH", "nice": 5}
    process["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 6}
    document["mounts"] += [SYSFS, CGROUP]
    linux["namespaces"] += [{"type": "time"}, {"type": "cgroup"}]
    linux["mountLabel"] = "a:label"
    linux["personality"] = {"domain": "LINUX32"}
    linux["timeOffsets"] = {"boottime": {"secs": 1000000, "nanosecs": 5},
                            "monotonic": {"secs": 2000000}}
    linux["sysctl"] = {"kernel.shmmax": "7654321", "net.core.somaxconn": "777",
                       "net/ipv4/conf/lo/forwarding": "1", "fs.mqueue.msg_max": "33",
                       "vm.swappiness": "7"}
    linux["devices"] = [{"type": "c", "path": "/dev/own", "major": 1, "minor": 3,
                         "fileMode": 0o640, "uid": 7, "gid": 8},
                        {"type": "c", "path": "/dev/loop-control", "major": 10, "minor": 237},
                        {"type": "p", "path": "/dev/pipe"}]
    linux["maskedPaths"] = ["/etc/group", "/home", "/nosuch"]
    linux["readonlyPaths"] = ["/proc/sys", "/nosuch"]
    linux["rootfsPropagation"] = "private"
    linux["resources"] = {
        "devices": [{"allow": False, "access": "rwm"},
                    {"allow": True, "type": "c", "major": 10, "minor": 237, "access": "rw"}],
        "cpu": {"shares": 512, "quota": 150000, "period": 100000, "burst": 20000},
        "memory": {"limit": 256 << 20, "reservation": 64 << 20, "swap": 256 << 20,
                   "kernel": 1 << 20, "kernelTCP": 1 << 20, "swappiness": 60, "useHierarchy": True,
                   "disableOOMKiller": False},
        "pids": {"limit": 123},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4 << 20}],
        "blockIO": {"weight": 321},
        "unified": {"memory.high": str(200 << 20)}}
    return document


class World:
    """One VM and its first container."""

    def __init__(self, engine):
        self.engine = engine
        self.box = engine.create("whole", main_document()).start()

    def exec(self, args, **process):
        """Runs a further process in the first container, one that may look at the first."""
        document = {**oci.spec(args)["process"], **process}
        document["capabilities"] = {kind: [*oci.CAPABILITIES, "CAP_SYS_PTRACE"] for kind in KINDS}
        file = self.box.bundle / "exec.json"
        file.write_text(json.dumps(document))
        return self.engine("exec", "--process", file, self.box.name)

    def inside(self, script):
        return self.exec(script).ok().text

    def beside(self, document):
        """What another container in the same VM writes, and its wait status."""
        next(entry for entry in document["linux"]["namespaces"] if entry["type"] == "network")[
            "path"] = f"/proc/{self.box.pid}/ns/net"
        other = self.engine.create("beside", document).start()
        out, err = other.output()
        status = other.wait()
        other.delete().ok()
        return out.decode() + err.decode(), status

    def update(self, resources):
        return self.engine("update", "--resources", "-", self.box.name,
                           input=json.dumps(resources).encode())

    def cgroup(self, name):
        return self.inside(f"cat /sys/fs/cgroup/{name}").strip()


@pytest.fixture(scope="module")
def world(rootfs):
    made = host_module.Host()
    engine = oci.Engine(made, rootfs)
    yield World(engine)
    engine.close()
    made.close()


@pytest.fixture
def engine(host, rootfs):
    made = oci.Engine(host, rootfs)
    yield made
    made.close()


def scheduling(text):
    """Nice value, real-time priority and policy of /proc/PID/stat."""
    fields = text[text.rindex(")") + 2:].split()
    return int(fields[16]), int(fields[37]), int(fields[38])


# --- process
def test_user(world):
    told = world.inside("sed -n '/^Uid\\|^Gid\\|^Groups\\|^Umask/p' /proc/1/status").split("\n")
    values = {line.split(":")[0]: line.split(":")[1].split() for line in told if line}
    assert values == {"Uid": ["0"] * 4, "Gid": ["5"] * 4, "Groups": ["29", "31"],
                      "Umask": ["0027"]}


def test_args_env_and_cwd(world):
    assert world.inside("tr '\\0' ' ' < /proc/1/cmdline") == "sleep 100000 "
    assert "WORD=of the spec" in world.inside("tr '\\0' '\\n' < /proc/1/environ").splitlines()
    assert world.inside("readlink /proc/1/cwd") == "/made/for/it\n"


def test_capabilities(world):
    document = oci.spec("grep ^Cap /proc/self/status")
    document["process"]["capabilities"] = {
        "bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_NEWER_THAN_US"], "effective": ["CAP_CHOWN"],
        "permitted": ["CAP_CHOWN", "CAP_KILL"], "inheritable": ["CAP_KILL"],
        "ambient": ["CAP_KILL"]}
    document["process"]["user"]["uid"] = 1000
    text, _ = world.beside(document)
    values = {line.split(":")[0]: int(line.split(":")[1], 16) for line in text.splitlines()}
    chown, kill = 1 << 0, 1 << 5
    # Those that execve leaves to who is not root: the ambient ones.
    assert values == {"CapBnd": chown | kill, "CapInh": kill, "CapAmb": kill, "CapPrm": kill,
                      "CapEff": kill}
    assert "CAP_NEWER_THAN_US" in world.engine.log.read_text()


def test_what_has_no_effect_is_told(world):
    """Also of an exec and of an update."""
    sets = {"bounding": ["CAP_OF_AN_EXEC"]}
    document = {**oci.spec("true")["process"], "capabilities": sets}
    file = world.box.bundle / "exec.json"
    file.write_text(json.dumps(document))
    world.engine("exec", "--process", file, "whole").ok()
    world.update({"memory": {"swappiness": 7}}).ok()
    told = [json.loads(line)["msg"] for line in world.engine.log.read_text().splitlines()]
    assert any("CAP_OF_AN_EXEC" in line for line in told)
    assert any(line.startswith("linux.resources: memory.swappiness") for line in told)


def test_rlimits(world):
    text = world.inside("cat /proc/1/limits")
    assert [line.split()[3:5] for line in text.splitlines() if "open files" in line] == [
        ["100", "200"]]
    assert [line.split()[4:6] for line in text.splitlines() if "core file" in line] == [["0", "0"]]


def test_oom_score_and_new_privileges(world):
    assert world.inside("cat /proc/1/oom_score_adj") == "123\n"
    assert "NoNewPrivs:\t1" in world.inside("cat /proc/1/status")


def test_scheduler_of_the_container(world):
    assert scheduling(world.inside("cat /proc/1/stat")) == (5, 0, 3)
    assert scheduling(world.exec(["cat", "/proc/self/stat"]).ok().text) == (5, 0, 3)


@pytest.mark.parametrize("scheduler, expected", [
    ({"policy": "SCHED_OTHER", "nice": -7}, (-7, 0, 0)),
    ({"policy": "SCHED_FIFO", "priority": 10}, (0, 10, 1)),
    ({"policy": "SCHED_RR", "priority": 99}, (0, 99, 2)),
    ({"policy": "SCHED_BATCH", "nice": 19}, (19, 0, 3)),
    ({"policy": "SCHED_IDLE"}, (0, 0, 5)),
    ({"policy": "SCHED_DEADLINE", "runtime": 10000000, "deadline": 50000000,
      "period": 100000000}, (0, 0, 6)),
])
def test_schedulers(world, scheduler, expected):
    told = world.exec(["cat", "/proc/self/stat"], scheduler=scheduler).ok().text
    assert scheduling(told)[1:] == expected[1:]
    if scheduler["policy"] in ("SCHED_OTHER", "SCHED_BATCH"):
        assert scheduling(told)[0] == expected[0]


def test_scheduler_flags(world):
    script = "cat /proc/$$/stat; cat /proc/self/stat; true"  # the shell's own, then its child's
    first, second = world.exec(script, scheduler={
        "policy": "SCHED_FIFO", "priority": 3,
        "flags": ["SCHED_FLAG_RESET_ON_FORK"]}).ok().lines
    assert scheduling(first)[2] == 1 and scheduling(second)[2] == 0
    world.exec("true", scheduler={"policy": "SCHED_DEADLINE", "runtime": 5, "deadline": 1,
                                  "period": 1}).fails("process.scheduler", code=255)


def test_io_priority(world):
    assert world.inside("ionice -p 1") == "best-effort: prio 6\n"
    told = world.exec("ionice", ioPriority={"class": "IOPRIO_CLASS_RT", "priority": 2}).ok()
    assert told.text == "realtime: prio 2\n"
    told = world.exec("ionice", ioPriority={"class": "IOPRIO_CLASS_IDLE", "priority": 0}).ok()
    assert told.text.startswith("idle")


def test_exec_cpu_affinity(world):
    def allowed(**affinity):
        text = world.exec("grep Cpus_allowed_list /proc/self/status",
                          execCPUAffinity=affinity).ok().text
        return text.split()[1]
    assert allowed() == "0-1"  # the VM is as large as its CPU limit
    assert allowed(initial="1") == "1"
    assert allowed(initial="1", final="0") == "0"
    assert allowed(final="0, 1") == "0-1"
    world.exec("true", execCPUAffinity={"initial": "1000"}).fails(
        "process.execCPUAffinity", "1000", code=255)


# --- root and mounts
def test_root(world):
    document = oci.spec("touch /new; ls /bin/busybox")
    document["root"]["readonly"] = True
    text, status = world.beside(document)
    assert "Read-only file system" in text and "/bin/busybox\n" in text and status == 0


def test_mount_options(world, tmp_path):
    (tmp_path / "file").write_text("words")
    (tmp_path / "run").write_text("#!/bin/sh\necho ran\n")
    (tmp_path / "run").chmod(0o755)
    document = oci.spec("grep -E ' /m[0-9] ' /proc/self/mountinfo; cat /m1/file; touch /m1/x; "
                        "/m2/run; touch /m2/x && ls /m2/x")
    for number, options in enumerate((["size=1m", "mode=1730", "nosuid", "nodev", "noexec",
                                       "noatime"],)):
        document["mounts"].append({"destination": f"/m{number}", "type": "tmpfs",
                                   "source": "tmpfs", "options": options})
    document["mounts"] += [
        {"destination": "/m1", "type": "bind", "source": str(tmp_path),
         "options": ["rbind", "ro", "rprivate"]},
        {"destination": "/m2", "source": str(tmp_path), "options": ["bind", "noexec"]},
        {"destination": "/m3", "type": "tmpfs", "source": "tmpfs", "options": ["shared"]},
        {"destination": "/m4", "type": "tmpfs", "source": "tmpfs", "options": ["rro", "rnosuid"]}]
    text, _ = world.beside(document)
    lines = {line.split()[4]: line.split() for line in text.splitlines() if " /m" in line and "- " in line}
    assert set("nosuid,nodev,noexec,noatime".split(",")) <= set(lines["/m0"][5].split(","))
    assert "size=1024k" in text and "mode=1730" in text
    assert "ro" in lines["/m1"][5].split(",") and "words" in text
    assert "touch: /m1/x: Read-only file system" in text
    assert "/m2/run: Permission denied" in text and "/m2/x\n" in text
    assert lines["/m3"][6].startswith("shared:") and not lines["/m1"][6].startswith("shared")
    assert {"ro", "nosuid"} <= set(lines["/m4"][5].split(","))


def test_a_tmpfs_has_the_mode_of_what_it_covers(world):
    document = oci.spec("stat -c %a /tmp /home /work; ls /home")
    document["mounts"] += [{"destination": name, "type": "tmpfs", "source": "tmpfs",
                            "options": options}
                           for name, options in (("/tmp", []), ("/home", []),
                                                 ("/work", ["mode=711"]))]
    text, _ = world.beside(document)
    assert text.split() == ["1777", "755", "711"]


def test_tmpcopyup(world, tmp_path):
    """Owners, modes, times, special files and hard links are kept; no link leads out."""
    (tmp_path / "folder").mkdir()
    file = tmp_path / "folder" / "file"
    file.write_text("words")
    os.chown(file, 1000, 29)
    file.chmod(0o4751)
    os.utime(file, (1000000000, 1000000000))
    os.link(file, tmp_path / "other")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "pipe").chmod(0o620)
    os.mknod(tmp_path / "device", stat.S_IFCHR | 0o604, os.makedev(1, 7))
    (tmp_path / "device").chmod(0o604)
    (tmp_path / "passwd").symlink_to("/etc/passwd")
    (tmp_path / "up").symlink_to("../../../../../..")
    tmp_path.chmod(0o2751)
    os.chown(tmp_path, 11, 12)
    document = oci.spec(
        "cd /up; stat -c '%n %F %a %u:%g %h' . folder/file other pipe device; "
        "stat -c %Y folder/file; readlink passwd; readlink up; cat other; echo; echo more >> other; cat folder/file; "
        "touch new && ls new")
    document["mounts"] += [
        {"destination": "/up", "type": "bind", "source": str(tmp_path), "options": ["rbind"]},
        {"destination": "/up", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}]
    text, _ = world.beside(document)
    assert text.splitlines() == [
        ". directory 2751 11:12 3", "folder/file regular file 4751 1000:29 2",
        "other regular file 4751 1000:29 2", "pipe fifo 620 0:0 1",
        "device character special file 604 0:0 1", "1000000000", "/etc/passwd",
        "../../../../../..", "words", "wordsmore", "new"], text
    assert file.read_text() == "words" and not (tmp_path / "new").exists()


def test_tmpcopyup_of_what_is_read_only(world):
    """podman's --read-only."""
    document = oci.spec("cat /etc/passwd; touch /etc/new; ls -ld /etc | cut -c 1-10")
    document["root"]["readonly"] = True
    document["mounts"].append({"destination": "/etc", "type": "tmpfs", "source": "tmpfs",
                               "options": ["ro", "rprivate", "nosuid", "nodev", "tmpcopyup"]})
    text, _ = world.beside(document)
    assert "alice" in text and "/etc/new: Read-only file system" in text, text
    assert "drwxr-xr-x\n" in text


# --- names and namespaces
def test_names(world):
    assert world.inside("hostname; cat /proc/sys/kernel/domainname") == "whole\nexample.org\n"


def test_namespaces(world):
    """Each that is asked for is another than in a container beside it, but the network."""
    script = "for n in pid net ipc uts mnt cgroup time; do readlink /proc/self/ns/$n; done"
    own = world.inside(script).split()
    document = oci.spec(script)
    document["linux"]["namespaces"] += [{"type": "time"}, {"type": "cgroup"}]
    text, _ = world.beside(document)
    same = {mine.split(":")[0] for mine, others in zip(own, text.split()) if mine == others}
    assert len(own) == 7 and same == {"net"}
    assert world.inside("echo $$ > /dev/null; readlink /proc/1/exe") == "/bin/busybox\n"


def test_time_offsets(world):
    words = world.inside("cat /proc/self/timens_offsets; cat /proc/uptime").split()
    assert words[:6] == ["monotonic", "2000000", "0", "boottime", "1000000", "5"]
    assert 1000000 < float(words[6]) < 1100000
    document = oci.spec("cat /proc/self/timens_offsets")
    document["linux"]["namespaces"].append({"type": "time"})
    assert world.beside(document)[0].split()[1] == "0"


def test_time_offsets_and_a_pid_namespace_that_is_joined(world):
    document = oci.spec("cat /proc/uptime; readlink /proc/self/ns/pid")
    document["linux"]["namespaces"][0]["path"] = f"/proc/{world.box.pid}/ns/pid"
    document["linux"]["namespaces"].append({"type": "time"})
    document["linux"]["timeOffsets"] = {"boottime": {"secs": 5000000}}
    text, _ = world.beside(document)
    words = text.split()
    assert float(words[0]) > 5000000
    assert words[2] == world.inside("readlink /proc/self/ns/pid").strip()


# --- linux
def test_personality(world):
    assert world.inside("cat /proc/1/personality") == "00000008\n"
    assert world.inside("uname -m") == "i686\n"
    document = oci.spec("uname -m; cat /proc/self/personality")
    document["linux"]["personality"] = {"domain": "LINUX"}
    assert world.beside(document)[0].split() == ["x86_64", "00000000"]


def test_sysctls(world):
    assert world.inside("cd /proc/sys; cat kernel/shmmax net/core/somaxconn "
                        "net/ipv4/conf/lo/forwarding fs/mqueue/msg_max vm/swappiness").split() == [
                            "7654321", "777", "1", "33", "7"]


def test_devices(world):
    assert world.inside("stat -c '%n %F %a %u:%g %t,%T' /dev/own /dev/pipe").splitlines() == [
        "/dev/own character special file 640 7:8 1,3", "/dev/pipe fifo 666 0:0 0,0"]
    assert world.inside("echo x > /dev/own; for n in null zero full random urandom tty; do "
                        "[ -c /dev/$n ] && echo $n; done").split() == [
                            "null", "zero", "full", "random", "urandom", "tty"]


def test_device_rules(world):
    document = oci.spec("mknod /tmp/mem c 1 1; mknod /tmp/loop c 10 237; cat /tmp/mem | head -c 1; "
                        "cat < /dev/null && echo null")
    document["mounts"].append({"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"})
    for kind in KINDS:
        document["process"]["capabilities"][kind] = [*oci.CAPABILITIES, "CAP_MKNOD"]
    document["linux"]["resources"] = {
        "devices": [{"allow": False, "access": "rwm"},
                    {"allow": True, "type": "c", "major": 1, "minor": 1, "access": "m"}]}
    text, _ = world.beside(document)
    assert "'/tmp/mem': Operation not permitted" in text and "null\n" in text
    assert "mknod: /tmp/mem" not in text


def test_hidden_paths(world):
    assert world.inside("cat /etc/group; ls /home; wc -c < /etc/passwd").split() != ["0"]
    assert world.inside("cat /etc/group; ls -A /home") == ""
    told = world.exec("echo 1 > /proc/sys/kernel/shmmax")
    assert "Read-only file system" in told.error


@pytest.mark.parametrize("propagation, optional", [("private", "-"), ("rslave", "-"),
                                                   ("shared", "shared:"), ("unbindable", "unbin")])
def test_rootfs_propagation(world, propagation, optional):
    document = oci.spec("grep ' / / ' /proc/self/mountinfo || grep ' / ' /proc/self/mountinfo")
    document["linux"]["rootfsPropagation"] = propagation
    text, _ = world.beside(document)
    root = next(line for line in text.splitlines() if line.split()[4] == "/")
    assert root.split()[6].startswith(optional), text


# --- resources
def test_cpu(world):
    assert world.cgroup("cpu.max") == "150000 100000"
    assert world.cgroup("cpu.weight") == "20"
    assert world.cgroup("cpu.max.burst") == "20000"
    assert world.cgroup("cpu.idle") == "0"


def test_cpu_update(world):
    world.engine("update", "--cpu-quota", "10000", "--cpu-burst", "9000", "whole").ok()
    assert (world.cgroup("cpu.max"), world.cgroup("cpu.max.burst")) == ("10000 100000", "9000")
    world.engine("update", "--cpu-quota", "150000", "--cpu-burst", "30000", "whole").ok()
    assert (world.cgroup("cpu.max"), world.cgroup("cpu.max.burst")) == ("150000 100000", "30000")
    world.engine("update", "--cpu-idle", "1", "whole").ok()
    assert world.cgroup("cpu.idle") == "1"
    world.engine("update", "--cpu-idle", "0", "--cpu-share", "512", "whole").ok()
    assert (world.cgroup("cpu.idle"), world.cgroup("cpu.weight")) == ("0", "20")
    world.engine("update", "--cpu-idle", "2", "whole").fails("cpu.idle", code=1)
    world.engine("update", "--cpu-rt-runtime", "100", "whole").fails("cpu.realtimeRuntime", code=1)


def test_memory(world):
    assert world.cgroup("memory.max") == str(256 << 20)
    assert world.cgroup("memory.low") == str(64 << 20)
    assert world.cgroup("memory.high") == str(200 << 20)
    warnings = world.engine.log.read_text()
    for name in ("kernel", "kernelTCP", "swappiness"):
        assert f"linux.resources.memory.{name}: has no effect" in warnings


def test_memory_check_before_update(world):
    small = {"limit": 65536, "swap": 65536, "checkBeforeUpdate": True}
    world.update({"memory": small}).fails("linux.resources.memory", "in use", code=1)
    assert world.cgroup("memory.max") == str(256 << 20)
    world.update({"memory": {"limit": 240 << 20, "swap": 240 << 20,
                             "checkBeforeUpdate": True}}).ok()
    assert world.cgroup("memory.max") == str(240 << 20)
    world.update({"memory": {"limit": 256 << 20, "swap": 256 << 20}}).ok()


def test_pids_and_hugepages(world):
    assert world.cgroup("pids.max") == "123"
    assert world.cgroup("hugetlb.2MB.max") == str(4 << 20)


def test_block_io(world):
    """Of a disk of the guest: a loop device, made here."""
    assert world.cgroup("io.bfq.weight") == "default 321"
    world.engine("update", "--blkio-weight", "200", "whole").ok()
    assert world.cgroup("io.bfq.weight") == "default 200"
    assert world.inside("losetup -f").strip() == "/dev/loop0"
    device = {"major": 7, "minor": 0}
    world.update({"blockIO": {"throttleReadBpsDevice": [{**device, "rate": 1000000}],
                              "throttleWriteBpsDevice": [{**device, "rate": 2000000}],
                              "throttleReadIOPSDevice": [{**device, "rate": 300}],
                              "throttleWriteIOPSDevice": [{**device, "rate": 400}]}}).ok()
    assert world.cgroup("io.max") == "7:0 rbps=1000000 wbps=2000000 riops=300 wiops=400"
    world.update({"blockIO": {"throttleReadBpsDevice": [{**device, "rate": 0}]}}).ok()
    assert "rbps=max" in world.cgroup("io.max")
    weights = {"blockIO": {"weightDevice": [{**device, "weight": 300}]}}
    world.update(weights).fails("blockIO", "bfq", code=1)
    world.inside("echo bfq > /sys/block/loop0/queue/scheduler")
    world.update(weights).ok()
    assert "7:0 300" in world.cgroup("io.bfq.weight")
    world.update({"blockIO": {"throttleReadBpsDevice": [
        {"major": 8, "minor": 77, "rate": 1}]}}).fails("blockIO", "8:77", code=1)


# --- seccomp
def profile(*rules, **more):
    return {"defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32",
                              "SCMP_ARCH_AARCH64", "SCMP_ARCH_RISCV64"],
            "syscalls": list(rules), **more}


def test_seccomp_operators_and_flags(world):
    def rule(code, *args):
        return {"names": ["setpriority", "no_such_call"], "action": "SCMP_ACT_ERRNO",
                "errnoRet": code, "args": [
                    {"index": 2, "op": "SCMP_CMP_" + op, "value": value, "valueTwo": two}
                    for op, value, two in args]}
    rules = [rule(201, ("EQ", 1, 0)), rule(202, ("GT", 18, 0)), rule(203, ("MASKED_EQ", 28, 8))]
    document = oci.spec("grep Seccomp: /proc/self/status; "
                        "for n in 1 2 8 11 12 19; do renice $n $$ 2>&1 && echo $n; done")
    document["linux"]["seccomp"] = profile(*rules, flags=[
        "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC",
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"])
    text, _ = world.beside(document)
    told = [line.split()[-1] for line in text.splitlines()]
    assert told == ["2", "201", "2", "203", "203", "12", "202"], text


@pytest.mark.parametrize("action, expected", [
    ("SCMP_ACT_KILL_PROCESS", "159"), ("SCMP_ACT_KILL", "159"), ("SCMP_ACT_KILL_THREAD", "159"),
    ("SCMP_ACT_TRAP", "159"), ("SCMP_ACT_LOG", "0"), ("SCMP_ACT_TRACE", "1"),
    ("SCMP_ACT_ERRNO", "1"), ("SCMP_ACT_ALLOW", "0")])
def test_seccomp_actions(world, action, expected):
    document = oci.spec("mkdir /dev/x 2> /dev/null; echo $?")
    document["linux"]["seccomp"] = profile({"names": ["mkdir", "mkdirat"], "action": action})
    assert world.beside(document)[0].split()[-1] == expected


def test_seccomp_of_another_byte_order(world):
    document = oci.spec("true")
    document["linux"]["seccomp"] = profile(architectures=["SCMP_ARCH_S390X"])
    refused(world.engine, document, "SCMP_ARCH_S390X", "byte order")


# --- what is refused
def refused(engine, document, *words):
    oci.refused(engine, document, *words).close()


def change(document, path, value):
    *folders, name = path.split(".")
    for folder in folders:
        document = document.setdefault(folder, {})
    document[name] = value


@pytest.mark.parametrize("field, value", [
    ("windows", {"layerFolders": ["x"]}), ("solaris", {"milestone": "x"}), ("vm.kernel.path", "/k"),
    ("zos", {"x": "y"}), ("freebsd", {"x": "y"}),
    ("process.scheduler", {"policy": "SCHED_OTHER", "nice": 40}),
    ("process.ioPriority", {"class": "IOPRIO_CLASS_BE", "priority": 8}),
    ("process.execCPUAffinity", {"initial": "3-1"}),
    ("process.rlimits", 2 * [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}]),
    ("linux.personality", {"domain": "LINUX", "flags": ["x"]}),
    ("linux.timeOffsets", {"monotonic": {"secs": 5}}),
    ("linux.intelRdt", {"closID": "x"}), ("linux.netDevices", {"eth0": {"name": "x"}}),
    ("linux.memoryPolicy", {"mode": "MPOL_BIND"}),
    ("linux.sysctl", {"kernel.hostname": "x"}),
    ("linux.rootfsPropagation", "far"),
    ("linux.resources.network", {"classID": 1}), ("linux.resources.rdma", {"x": {"hcaHandles": 1}}),
    ("linux.resources.cpu.realtimeRuntime", 1), ("linux.resources.cpu.realtimePeriod", 1),
    ("linux.resources.memory.disableOOMKiller", True),
    ("linux.resources.blockIO.leafWeight", 10),
    ("linux.seccomp.listenerPath", "/x"), ("linux.seccomp.defaultAction", "SCMP_ACT_NOTIFY"),
])
def test_refused(engine, field, value):
    document = oci.spec("true")
    change(document, field, value)
    if field == "linux.seccomp.listenerPath":
        document["linux"]["seccomp"]["defaultAction"] = "SCMP_ACT_ALLOW"
    refused(engine, document, field.split(".kernel")[0], "config.json")
    engine.host.nothing_left()


@pytest.mark.parametrize("kind, changes, word", [
    ("uts", {"hostname": "x"}, "hostname"), ("uts", {"hostname": "", "domainname": "x"}, "domainname"),
    ("ipc", {"linux": {"sysctl": {"kernel.sem": "1"}}}, "kernel.sem"),
    ("uts", {"hostname": "", "linux": {"sysctl": {"kernel.domainname": "x"}}}, "kernel.domainname"),
])
def test_refused_without_a_namespace(engine, kind, changes, word):
    changes = copy.deepcopy(changes)
    document = oci.spec("true")
    document["linux"].update(changes.pop("linux", {}))
    document.update(changes)
    document["linux"]["namespaces"] = [entry for entry in document["linux"]["namespaces"]
                                       if entry["type"] != kind]
    refused(engine, document, word, kind if "." in word else "namespace")


def test_features(engine):
    features = json.loads(engine("features").ok().text)
    seccomp = features["linux"]["seccomp"]
    assert "SCMP_ACT_NOTIFY" not in seccomp["actions"] and "SCMP_ARCH_S390" in seccomp["archs"]
    assert "tmpcopyup" in features["mountOptions"] and "rro" in features["mountOptions"]
    assert "CAP_BPF" in features["linux"]["capabilities"]
    assert features["linux"]["mountExtensions"]["idmap"]["enabled"] is True
