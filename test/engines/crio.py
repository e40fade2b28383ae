"""A CRI-O of the tests' own, in namespaces made for it, as containerd.py has its containerd."""

import json
import os
import pathlib
import shutil
import signal
import subprocess

from containerd import CNI
from host import PROGRAM, eventually
from private import PATH, Private

# CRI-O lowers the pause program's oom_score_adj, which not every machine's root may.
RUNC = """#!/bin/sh
for word; do
  [ "$last" != --bundle ] ||
    sed -i "s/\\"oomScoreAdj\\": *-*[0-9]*/\\"oomScoreAdj\\":$(cat /proc/self/oom_score_adj)/" \\
      "$word/config.json"
  last=$word
done
exec /usr/sbin/runc "$@"
"""
RUNTIMES = {"runc": "{folder}/runc", "bulkhead-oci": PROGRAM}
SETTINGS = """[crio]
root = "{folder}/s"
runroot = "{run}/storage"
storage_driver = "overlay"
log_dir = "{folder}/logs"
version_file = "{run}/version"
clean_shutdown_file = "{folder}/clean"
[crio.api]
listen = "{socket}"
[crio.runtime]
conmon_cgroup = "pod"
cgroup_manager = "cgroupfs"
apparmor_profile = "unconfined"
hooks_dir = []
container_exits_dir = "{run}/exits"
container_attach_socket_dir = "{run}"
namespaces_dir = "{run}/ns"
drop_infra_ctr = {drop_infra}
pinns_path = "{programs}/pinns"
enable_criu_support = false
# Without nftables it crashes at the first one.
disable_hostport_mapping = true
default_runtime = "{name}"
[crio.runtime.runtimes.{name}]
runtime_path = "{program}"
runtime_type = "oci"
runtime_root = "{run}/{name}"
monitor_path = "/usr/bin/conmon"
monitor_cgroup = "pod"
privileged_without_host_devices = true
[crio.image]
pause_image = "{registry}/pause:1"
pause_command = "/bin/pause"
signature_policy = "{folder}/policy.json"
[crio.network]
network_dir = "/etc/cni/net.d"
plugin_dirs = ["/usr/lib/cni"]
"""
# Whatever registry an image's name has: this one is asked, without TLS.
REGISTRIES = """short-name-mode = "disabled"
unqualified-search-registries = ["{registry}"]
""" + "".join("""[[registry]]
prefix = "%s"
location = "{registry}"
insecure = true
""" % prefix for prefix in ("{registry}", "*.io"))


class Crio(Private):
    """Its images come from the registry at `registry` (HOST:PORT) alone."""

    program = "crictl"

    def __init__(self, name, programs, registry, drop_infra=False):
        super().__init__()
        self.name, self.namespace = name, self.label
        self.run = pathlib.Path("/run/crio")
        self.socket, self.log = self.folder / "c.sock", self.folder / "crio.log"
        self.programs, self.daemon = programs, None
        self.settings = self.folder / "crio.conf"
        self.settings.write_text(SETTINGS.format(
            folder=self.folder, run=self.run, socket=self.socket, programs=programs, name=name,
            program=RUNTIMES[name].format(folder=self.folder), registry=registry, drop_infra=str(drop_infra).lower()))
        (self.folder / "runc").write_text(RUNC)
        (self.folder / "runc").chmod(0o755)
        (self.folder / "policy.json").write_text(
            json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
        shutil.rmtree(self.path("/etc/cni"), ignore_errors=True)
        self.path("/etc/cni/net.d").mkdir(parents=True)
        self.path("/etc/containers").mkdir(exist_ok=True)
        self.path("/etc/containers/registries.conf").write_text(
            REGISTRIES.format(registry=registry))
        self.path("/etc/cni/net.d/10-tests.conflist").write_text(json.dumps(CNI))
        told = subprocess.run([programs / "crio", "--version"], check=True, capture_output=True,
                              text=True, timeout=30).stdout
        self.title = f"CRI-O {told.split()[2]}"
        try:
            self.up()
        except BaseException:
            if self.daemon:
                self.daemon.kill()
            self.abandon()
            raise

    def up(self):
        with open(self.log, "ab") as log:
            self.daemon = subprocess.Popen(
                self.inside("setpriv", "--pdeathsig", "KILL", self.programs / "crio", "--config",
                            self.settings, "--config-dir", ""),
                env={**self.environment, "PATH": f"{os.path.dirname(PROGRAM)}:{PATH}"},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        eventually(lambda: self.daemon.poll() is not None or self.socket.exists(),
                   what="CRI-O's start")
        assert self.daemon.poll() is None, self.log.read_text()[-2000:]
        self.mounts = set(self.mount_points())  # its storage is one

    def new_processes(self):
        return [process for process in super().new_processes()
                if not self.daemon or process.pid != self.daemon.pid]

    def left_over(self):
        found = super().left_over()
        for folder in (self.path("/run/netns"), self.path(self.run / "exits"),
                       self.path(self.run / self.name / "containers"),
                       self.path(self.run / self.name / "engine-pods")):
            if folder.is_dir():
                found += [f"file {path}" for path in folder.iterdir()]
        return found + [f"link {name}" for name in self.links() - {"tests0"}]

    def close(self):
        self.daemon.send_signal(signal.SIGTERM)
        self.daemon.wait(30)
        for point in sorted(set(self.mount_points()) - self.mounts, reverse=True):
            subprocess.run(self.inside("umount", "-l", point), check=False, timeout=30)
        super().close()
