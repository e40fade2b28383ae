"""Containers in user namespaces, as Docker's userns-remap, Podman's --uidmap and Kubernetes'
hostUsers: false ask for them: looked at from inside and, for the owners of files, on the host."""

import json
import os
import subprocess

import host as host_module
import oci
import pytest

FIRST, COUNT = 100000, 65536
MAPPINGS = [{"containerID": 0, "hostID": FIRST, "size": COUNT}]
SYSFS = {"destination": "/sys", "type": "sysfs", "source": "sysfs",
         "options": ["nosuid", "noexec", "nodev", "ro"]}
CGROUP = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
          "options": ["nosuid", "noexec", "nodev", "relatime", "rw"]}
MQUEUE = {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
          "options": ["nosuid", "noexec", "nodev"]}
EVERY = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_MKNOD", "CAP_NET_ADMIN",
         "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID", "CAP_SYS_ADMIN",
         "CAP_SYS_PTRACE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME"]


def document(script, user="", **changes):
    made = oci.spec(script, **changes)
    sets = ("bounding", "effective", "permitted")
    made["process"]["capabilities"] = {kind: EVERY for kind in sets}
    made["linux"]["namespaces"] += [{"type": "user", **({"path": user} if user else {})},
                                    {"type": "cgroup"}]
    made["linux"]["uidMappings"] = made["linux"]["gidMappings"] = MAPPINGS
    made["mounts"] += [SYSFS, CGROUP, MQUEUE]
    return made


@pytest.fixture(scope="module")
def mapped_rootfs(rootfs, tmp_path_factory):
    """As engines prepare one: everything is the mapped root's."""
    folder = tmp_path_factory.mktemp("mapped") / "rootfs"
    subprocess.run(["cp", "-a", rootfs, folder], check=True)
    subprocess.run(["chown", "-R", f"{FIRST}:{FIRST}", folder], check=True)
    return folder


class World:
    def __init__(self, engine, volume):
        self.engine, self.volume = engine, volume
        main = document("exec sleep 100000", hostname="mapped")
        main["process"]["oomScoreAdj"] = -321
        main["process"]["rlimits"] = [{"type": "RLIMIT_MEMLOCK", "soft": 1 << 30, "hard": 1 << 31}]
        main["linux"]["sysctl"] = {"kernel.shmmax": "7654321", "kernel.domainname": "there",
                                   "net.core.somaxconn": "777",
                                   "vm.swappiness": "7"}
        main["linux"]["devices"] = [
            {"type": "c", "path": "/dev/own", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 7,
             "gid": 8}, {"type": "p", "path": "/dev/pipe"}]
        main["linux"]["maskedPaths"] = ["/etc/group", "/proc/keys", "/sys/firmware"]
        main["linux"]["readonlyPaths"] = ["/proc/sys", "/proc/bus"]
        main["mounts"].append({"destination": "/data", "type": "bind", "source": str(volume),
                               "options": ["rbind", "rprivate"]})
        main["mounts"].append({"destination": "/fixed", "type": "bind", "source": str(volume),
                               "options": ["bind", "ro", "nosuid"]})
        # Of the guest's memory, which nobody may run set-user-id programs of.
        main["mounts"].append({"destination": "/dev/shm", "type": "bind", "source": "/dev/shm",
                               "options": ["rbind", "rw"]})
        main["mounts"].append({"destination": "/memory", "type": "tmpfs", "source": "tmpfs",
                               "options": ["size=1m", "uid=7", "mode=0700"]})
        self.box = engine.create("mapped", main).start()

    def exec(self, args, **process):
        made = {**document(args)["process"], **process}
        file = self.box.bundle / "exec.json"
        file.write_text(json.dumps(made))
        return self.engine("exec", "--process", file, self.box.name)

    def inside(self, script, **process):
        return self.exec(script, **process).ok().text

    def denied(self, script, word):
        told = self.exec(script)
        assert told.code != 0 and word in told.error, str(told)

    def beside(self, made):
        """Output and exit code of another container in the VM."""
        next(entry for entry in made["linux"]["namespaces"] if entry["type"] == "network")[
            "path"] = f"/proc/{self.box.pid}/ns/net"
        other = self.engine.create("beside", made).start()
        out, err = other.output()
        status = other.wait()
        other.delete().ok()
        return (out + err).decode(), os.waitstatus_to_exitcode(status)


@pytest.fixture(scope="module")
def world(mapped_rootfs, tmp_path_factory):
    volume = tmp_path_factory.mktemp("volume")
    volume.chmod(0o755)
    (volume / "roots").write_text("of the host's root\n")
    (volume / "roots").chmod(0o600)
    (volume / "all").mkdir()
    (volume / "all").chmod(0o777)
    made = host_module.Host()
    engine = oci.Engine(made, mapped_rootfs)
    yield World(engine, volume)
    engine.close()
    made.close()


def test_who_it_is(world):
    assert world.inside("id -u; cat /proc/self/uid_map /proc/self/gid_map").split() == [
        "0", *["0", str(FIRST), str(COUNT)] * 2]
    assert world.inside("cat /proc/1/uid_map").split() == ["0", str(FIRST), str(COUNT)]
    assert world.inside("hostname").strip() == "mapped"
    ours = world.inside("readlink /proc/self/ns/user")
    assert ours == world.inside("readlink /proc/1/ns/user")


def test_its_limits(world):
    """What only the guest's root may raise."""
    assert world.inside("cat /proc/1/oom_score_adj") == "-321\n"
    limits = world.inside("grep 'locked memory' /proc/1/limits").split()
    assert limits[3:5] == [str(1 << 30), str(1 << 31)]
    assert world.exec("cat /proc/self/oom_score_adj", oomScoreAdj=-500).ok().text == "-500\n"
    world.exec("true", user={"uid": COUNT, "gid": 0}).fails("process.user.uid", str(COUNT), code=255)


def test_number_of_processes(world):
    """That of its user alone, not of the container's root."""
    world.inside("for i in 1 2 3 4 5 6 7 8; do sleep 60 < /dev/null > /dev/null 2>&1 & done")
    few = [{"type": "RLIMIT_NPROC", "soft": 3, "hard": 3}]
    told = world.exec("ulimit -u", user={"uid": 1000, "gid": 0}, rlimits=few).ok()
    assert told.text == "3\n"


def test_kernel_parameters(world):
    told = world.inside("cd /proc/sys; cat kernel/shmmax kernel/domainname net/core/somaxconn "
                        "vm/swappiness")
    assert told.split() == ["7654321", "there", "777", "7"]
    text = world.inside("mount -t proc proc /home && echo 9 > /home/sys/vm/swappiness; echo $?")
    assert text.split()[-1] != "0"
    assert world.inside("cat /proc/sys/vm/swappiness") == "7\n"


def test_owners_of_files(world):
    """Numbers are mapped on the way to the host; who is not mapped is nobody, and shut out."""
    world.inside("echo x > /data/all/f && chown 5:6 /data/all/f && echo y > /of-root")
    made = os.stat(world.volume / "all/f")
    assert (made.st_uid, made.st_gid) == (FIRST + 5, FIRST + 6)
    assert os.stat(world.engine.rootfs / "of-root").st_uid == FIRST
    assert world.inside("stat -c %u /data/roots") == "65534\n"
    world.denied("cat /data/roots", "denied")
    world.denied("chown 0 /data/roots", "not permitted")
    world.denied("touch /fixed/all/x", "Read-only")
    (world.volume / "all/g").write_text("of the host\n")
    os.chown(world.volume / "all/g", FIRST + 9, FIRST)
    assert world.inside("stat -c %u:%g /data/all/g") == "9:0\n"


@pytest.mark.parametrize("transport, upper", [("9p", "shared"), ("virtiofs", "block"),
                                              ("virtiofs", "memory")])
def test_owners_by_every_way(mapped_rootfs, tmp_path, transport, upper):
    """Also with a drive, or memory, between."""
    tmp_path.chmod(0o777)
    made = document("touch /in-root /data/f && chown 3:4 /in-root /data/f && "
                    "stat -c %u:%g /in-root /data/f /bin/busybox",
                    annotations={"io.bulkhead.rootfs.upper": upper})
    made["mounts"].append({"destination": "/data", "type": "bind", "source": str(tmp_path),
                           "options": ["rbind"]})
    host = host_module.Host(sharing={"transport": transport})
    engine = oci.Engine(host, mapped_rootfs)
    try:
        box = engine.create("box", made).start()
        out, err = box.output()
        assert out.decode().split() == ["3:4", "3:4", "0:0"], err
        assert box.wait() == 0
    finally:
        engine.close()
        host.close()
    assert (os.stat(tmp_path / "f").st_uid, os.stat(tmp_path / "f").st_gid) == (FIRST + 3, FIRST + 4)


def test_devices(world):
    told = world.inside("cd /dev; stat -c '%n %a %u %g %t %T' own; head -c 4 zero | wc -c; "
                        "echo x > null && echo x > own && head -c 4 urandom | wc -c; ls -l fd pipe")
    lines = told.splitlines()
    assert lines[0] == "own 640 7 8 1 3"
    assert lines[1:3] == ["4", "4"]
    assert lines[3].endswith("fd -> /proc/self/fd") and lines[4].startswith("prw-rw-rw-")
    world.denied("mknod /dev/disk b 254 0", "not permitted")


def test_mounts(world):
    lines = [line.split() for line in world.inside("cat /proc/self/mounts").splitlines()]
    kinds = {line[1]: line[2] for line in lines}
    assert kinds["/sys"] == "sysfs" and kinds["/sys/fs/cgroup"] == "cgroup2"
    assert kinds["/proc"] == "proc" and kinds["/dev/mqueue"] == "mqueue"
    assert "ro" in next(line[3] for line in lines if line[1] == "/sys").split(",")
    assert world.inside("stat -c '%u %a' /memory").split() == ["7", "700"]
    shm = next(line[3] for line in lines if line[1] == "/dev/shm").split(",")
    assert {"rw", "nosuid", "nodev"} <= set(shm)
    assert world.inside("touch /dev/shm/x && stat -c %u /dev/shm/x") == "0\n"
    assert world.inside("ls /sys/class/net").split() == ["lo"]
    world.denied("umount /sys", "")
    world.denied("mount -o remount,rw /fixed", "")
    assert world.inside("cat /etc/group; ls -A /sys/firmware").strip() == ""
    world.inside("mkdir /tmp/m && mount -t tmpfs tmpfs /tmp/m && umount /tmp/m && rmdir /tmp/m")


def test_nothing_of_the_guest_is_in_reach(world):
    world.denied("cat /proc/1/root/run/bulkhead", "")
    assert "/run/bulkhead" not in world.inside("cat /proc/self/mountinfo")
    world.denied("echo 1 > /proc/sysrq-trigger", "")
    assert "not permitted" in world.exec("date -s 2001-01-01").error


def test_a_cgroup_of_its_own(world):
    told = world.inside("cd /sys/fs/cgroup && mkdir part && echo $$ > part/cgroup.procs && "
                        "cat /proc/self/cgroup; echo $$ > cgroup.procs && rmdir part; "
                        "echo 1 > pids.max 2> /dev/null; echo $?")
    assert told.splitlines()[0] == "0::/part"
    assert told.splitlines()[-1] == "1"


def test_low_ports(world):
    script = """
        timeout 20 nc -l -p 80 -e echo hi &
        for i in 1 2 3 4 5; do sleep 1; nc -w 5 127.0.0.1 80 < /dev/null && break; done"""
    assert world.inside(script) == "hi\n"


def test_streams_of_another_user(world):
    told = world.exec("echo a > /dev/stdout; echo b > /proc/self/fd/2; id -u; id -G",
                      user={"uid": 7, "gid": 8, "additionalGids": [9]}).ok()
    assert told.text == "a\n7\n8 9\n" and told.error == "b\n"


def test_another_beside_it(world):
    """By itself in a user namespace, of other ids."""
    made = document("cat /proc/self/uid_map; mount | grep -c proc; cat /dev/null; echo done")
    made["linux"]["uidMappings"] = [{"containerID": 0, "hostID": FIRST, "size": 1},
                                    {"containerID": 1, "hostID": 300000, "size": 9}]
    text, code = world.beside(made)
    assert code == 0 and text.split()[:6] == ["0", str(FIRST), "1", "1", "300000", "9"], text
    assert text.split()[-1] == "done"


def test_joined(world):
    """As Podman writes it: a mapping that means nothing, beside the path."""
    made = document("readlink /proc/self/ns/user; kill -0 1; cat /proc/1/comm; ls -l /proc/1/exe",
                    f"/proc/{world.box.pid}/ns/user")
    made["linux"]["uidMappings"] = made["linux"]["gidMappings"] = [
        {"containerID": 0, "hostID": 0, "size": 1}]
    next(entry for entry in made["linux"]["namespaces"] if entry["type"] == "pid")[
        "path"] = f"/proc/{world.box.pid}/ns/pid"
    text, code = world.beside(made)
    assert code == 0, text
    assert text.splitlines()[0] == world.inside("readlink /proc/self/ns/user").strip()
    assert text.splitlines()[1] == "sleep"


def test_joined_by_a_file(world, tmp_path):
    """As containerd pins one for a pod: containers with equal mappings share one in the guest."""
    place = tmp_path / "user"
    place.touch()
    holder = subprocess.Popen(["unshare", "--user", "sleep", "1000"])
    try:
        host_module.eventually(lambda: os.readlink(f"/proc/{holder.pid}/ns/user") != os.readlink(
            "/proc/self/ns/user"), 10, "a user namespace")
        subprocess.run(["mount", "--bind", f"/proc/{holder.pid}/ns/user", place], check=True)
    finally:
        holder.kill()
        holder.wait()
    try:
        seen = [world.beside(document("readlink /proc/self/ns/user; cat /proc/self/uid_map",
                                      str(place))) for _ in range(2)]
        assert seen[0] == seen[1] and seen[0][0].split()[1:] == ["0", str(FIRST), str(COUNT)]
        bare = document("true", str(place))
        del bare["linux"]["uidMappings"], bare["linux"]["gidMappings"]
        oci.refused(world.engine, bare, str(place), "uidMappings").close()
    finally:
        subprocess.run(["umount", place], check=True)


def test_terminal(world, tmp_path):
    socket = oci.ConsoleSocket(tmp_path)
    made = document("tty; stat -c %u $(tty); stty size", terminal=True)
    made["process"]["consoleSize"] = {"height": 11, "width": 22}
    next(entry for entry in made["linux"]["namespaces"] if entry["type"] == "network")[
        "path"] = f"/proc/{world.box.pid}/ns/net"
    other = world.engine.create("terminal", made, "--console-socket", socket.path, pipes=False)
    with open(socket.receive(), "rb", 0) as terminal:
        other.start()
        text = b""
        while chunk := read_terminal(terminal):
            text += chunk
    assert text.decode().split() == ["/dev/pts/0", "0", "11", "22"]
    other.wait()
    other.delete().ok()


def read_terminal(terminal):
    try:
        return terminal.read(4096)
    except OSError:  # EIO: its last process is gone
        return b""


@pytest.mark.parametrize("change, words", [
    (lambda linux: linux.pop("uidMappings"), ["linux.uidMappings", "not mapped"]),
    (lambda linux: linux.update(gidMappings=[{"containerID": 1, "hostID": 1, "size": 1}]),
     ["linux.gidMappings", "not mapped"]),
    (lambda linux: linux["namespaces"].remove({"type": "user"}), ["without a user namespace"]),
    (lambda linux: linux.update(uidMappings=MAPPINGS * 2), ["uid_map"]),
])
def test_refused(world, change, words):
    made = document("true")
    change(made["linux"])
    oci.refused(world.engine, made, *words).close()
