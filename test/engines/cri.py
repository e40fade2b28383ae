"""The kubelet's side of containerd: the CRI's calls, pods, and streams over a WebSocket."""

import base64
import json
import os
import socket
import struct
import urllib.parse
import zlib

import grpc
from containerd import IMAGE
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.message import DecodeError
from host import PATIENCE, eventually

CONTAINERD = "/usr/bin/containerd"
SERVICE = "runtime.v1"
READY, NOTREADY = 0, 1  # of a pod
RUNNING, EXITED = 1, 2  # of a container
STDIN, STDOUT, STDERR, ERROR, RESIZE = range(5)  # channels of a stream
POD, CONTAINER = 0, 1  # whose a namespace is


def descriptors(program=CONTAINERD):
    """The file descriptors that a Go program carries compressed.

    So the tests need no .proto files and fit the containerd that is installed.
    """
    with open(program, "rb") as file:
        data = file.read()
    at = -1
    while (at := data.find(b"\x1f\x8b\x08\0\0\0\0\0", at + 1)) >= 0:
        try:
            raw = zlib.decompressobj(31).decompress(data[at:at + (1 << 20)])
            found = descriptor_pb2.FileDescriptorProto.FromString(raw)
        except (zlib.error, DecodeError):
            continue
        yield found


def descriptor(package):
    for found in descriptors():
        if found.package == package:
            return found
    raise LookupError(f"{CONTAINERD} has no descriptor of {package}")


def without_options(message):
    """Go's own annotations of a message's fields need a file that is not there."""
    if not message.options.map_entry:
        message.ClearField("options")
    for field in message.field:
        field.ClearField("options")
    for nested in message.nested_type:
        without_options(nested)


class Cri:
    """The runtime service: `cri.StopContainer(container_id=name, timeout="3")`."""

    def __init__(self, path):
        self.address = f"unix://{path}"
        file = descriptor(SERVICE)
        for kind in ("dependency", "options"):
            file.ClearField(kind)
        for message in file.message_type:
            without_options(message)
        self.pool = descriptor_pool.DescriptorPool()
        self.pool.Add(file)
        self.factory = message_factory.MessageFactory(self.pool)

    def message(self, name):
        return self.factory.GetPrototype(
            self.pool.FindMessageTypeByName(f"{SERVICE}.{name}"))

    def __getattr__(self, method):
        request, response = self.message(method + "Request"), self.message(method + "Response")

        def invoke(**fields):
            # Each call connects anew: between two, containerd may have been restarted.
            with grpc.insecure_channel(self.address) as channel:
                call = channel.unary_unary(f"/{SERVICE}.RuntimeService/{method}",
                                           request.SerializeToString, response.FromString)
                return call(json_format.ParseDict(fields, request()), timeout=PATIENCE)
        return invoke

    def ready(self):
        """Waits until it has read its pods, which it does while it already answers."""
        def answers():
            try:
                return self.Status()
            except grpc.RpcError as error:
                assert "not initialized" in error.details(), error
                return None
        eventually(answers, what="the CRI's start")

    def sweep(self):
        """Ends and removes every pod."""
        for pod in self.ListPodSandbox().items:
            try:
                self.StopPodSandbox(pod_sandbox_id=pod.id)
                self.RemovePodSandbox(pod_sandbox_id=pod.id)
            except grpc.RpcError as error:
                print(f"pod {pod.id} stays: {error.details()}")


class Pod:
    """A pod as the kubelet makes it; the end of the `with` block removes it."""

    def __init__(self, cri, engine, name, logs, pid=CONTAINER, **namespaces):
        self.cri, self.engine, self.logs = cri, engine, logs
        self.security = {"namespace_options": {"network": POD, "pid": pid, "ipc": POD,
                                               **namespaces}}
        self.config = {
            "metadata": {"name": name, "uid": name, "namespace": "default", "attempt": 0},
            "hostname": name, "log_directory": str(logs),
            "dns_config": {"servers": ["127.0.0.1"]},
            "linux": {"cgroup_parent": f"/{engine.namespace}/{name}",
                      "security_context": self.security}}

    def __enter__(self):
        self.cri.ready()
        try:
            self.id = self.cri.RunPodSandbox(config=self.config,
                                             runtime_handler=self.engine.name).pod_sandbox_id
        except grpc.RpcError:
            self.remove_cgroup()
            raise
        return self

    def __exit__(self, *_):
        if self.id in [item.id for item in self.cri.ListPodSandbox().items]:
            self.cri.StopPodSandbox(pod_sandbox_id=self.id)
            self.cri.RemovePodSandbox(pod_sandbox_id=self.id)
        self.remove_cgroup()

    def remove_cgroup(self):
        """As the kubelet does."""
        self.engine.remove_cgroup(self.config["metadata"]["name"])

    def run(self, name, *command, memory=None, **fields):
        """Creates and starts a container; its identifier."""
        linux = {"security_context": self.security}
        if memory:
            linux["resources"] = {"memory_limit_in_bytes": str(memory)}
        made = self.cri.CreateContainer(
            pod_sandbox_id=self.id, sandbox_config=self.config,
            config={"metadata": {"name": name}, "image": {"image": IMAGE}, "command": list(command),
                    "log_path": f"{name}.log", "linux": linux, **fields}).container_id
        self.cri.StartContainer(container_id=made)
        return made

    def exec(self, container, script, seconds=PATIENCE):
        return self.cri.ExecSync(container_id=container, cmd=["sh", "-c", script],
                                 timeout=str(int(seconds)))

    def state(self):
        return self.cri.PodSandboxStatus(pod_sandbox_id=self.id).status.state

    def status(self, container):
        return self.cri.ContainerStatus(container_id=container).status

    def ended(self, container):
        """The status of a container once it has ended."""
        return eventually(lambda: (status := self.status(container)).state == EXITED and status,
                          what="the container's end")

    def log(self, name):
        """(stream, tag, text) of each line of a container's log."""
        lines = (self.logs / f"{name}.log").read_text().splitlines()
        return [tuple(line.split(" ", 3)[1:]) for line in lines]


class Stream:
    """A stream of the kubelet's kind: messages that begin with the number of their channel."""

    def __init__(self, engine, url):
        place = urllib.parse.urlparse(url)
        with engine.network():
            self.socket = socket.create_connection((place.hostname, place.port), PATIENCE)
        target = place.path + ("?" + place.query if place.query else "")
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall((
            f"GET {target} HTTP/1.1\r\nHost: {place.netloc}\r\nOrigin: http://localhost\r\n"
            f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n"
        ).encode())
        self.file = self.socket.makefile("rb")
        answer = self.file.readline()
        assert b" 101 " in answer, answer + self.file.read(1000)
        while self.file.readline().strip():
            pass
        self.seen = {}  # what came so far, by channel

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()

    def send(self, channel, data):
        data = bytes([channel]) + data
        size, mask = len(data), os.urandom(4)
        if size < 126:
            head = struct.pack(">BB", 0x82, 0x80 | size)
        else:
            head = struct.pack(">BBQ", 0x82, 0x80 | 127, size)
        repeated = (mask * (size // 4 + 1))[:size]
        masked = (int.from_bytes(data, "big") ^ int.from_bytes(repeated, "big"))
        self.socket.sendall(head + mask + masked.to_bytes(size, "big"))

    def receive(self):
        """Takes one message; False when there are no more."""
        head = self.file.read(2)
        if len(head) < 2 or head[0] & 15 == 8:
            return False
        size = head[1] & 127
        if size >= 126:
            size = int.from_bytes(self.file.read(2 if size == 126 else 8), "big")
        data = self.file.read(size)
        if data:
            self.seen[data[0]] = self.seen.get(data[0], b"") + data[1:]
        return True

    def until(self, channel, text):
        while text not in self.seen.get(channel, b""):
            assert self.receive(), f"the stream ended without {text!r}: {self.seen}"

    def until_size(self, channel, size):
        while len(self.seen.get(channel, b"")) < size:
            assert self.receive(), f"the stream ended at {len(self.seen.get(channel, b''))}"

    def end(self):
        """Reads to the end; the exit code of the command, or None if none was told."""
        while self.receive():
            pass
        status = json.loads(self.seen.get(ERROR) or "{}")
        if status.get("status") == "Success":
            return 0
        causes = status.get("details", {}).get("causes", [])
        return next((int(cause["message"]) for cause in causes if cause["reason"] == "ExitCode"),
                    None)
