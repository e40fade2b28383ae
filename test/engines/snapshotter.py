"""A proxy snapshotter whose snapshots are image files: what devmapper and blockfile hand over.

  loop   ext4 on a loop device        file   ext4 in a file, with the option `loop`
  packed  what is committed is packed as erofs; a container's snapshot of it is read-only
"""

import pathlib
import subprocess
import threading
from concurrent import futures

import grpc
from api import SNAPSHOTS, protos
from google.protobuf import json_format

VIEW, ACTIVE, COMMITTED = 1, 2, 3
IMAGE_BYTES = 64 << 20
PACK = """set -e
mkdir "$1.d"
mount -o loop "$1" "$1.d"
(cd "$1.d" && mkdir -p dev proc run sys)  # nobody can make them later
mkfs.erofs "$1.new" "$1.d" >&2 || { umount "$1.d"; exit 1; }
umount "$1.d"
rmdir "$1.d"
mv "$1.new" "$1"
"""


def tool(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=60,
                          check=False)
    if done.returncode != 0:
        raise OSError(f"{words[0]}: {done.stderr.strip()}")
    return done.stdout


def loops_of(path):
    return tool("losetup", "-j", path, "-O", "NAME", "-n").split()


class Failure(Exception):
    """What a call answers instead of a response."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


class Snapshotter:
    """Serves until the end of the `with` block. `image(key)` is the file of a snapshot."""

    def __init__(self, engine, kind, folder, size=IMAGE_BYTES):
        self.engine, self.kind, self.folder = engine, kind, pathlib.Path(folder)
        self.size = size
        self.entries, self.count = {}, 0
        self.lock = threading.Lock()
        self.server = grpc.server(futures.ThreadPoolExecutor(8))
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(
            SNAPSHOTS, {name: self.handler(name, *kinds)
                        for name, kinds in protos().methods(SNAPSHOTS).items()}),))
        self.server.add_insecure_port(f"unix://{engine.folder / kind}.sock")

    def __enter__(self):
        self.server.start()
        return self

    def __exit__(self, *_):
        self.forget()
        self.server.stop(1).wait()
        for entry in self.entries.values():
            self.detach(entry)

    def forget(self):
        """containerd remembers what it has unpacked, which the next of this name does not have."""
        words, some = ("snapshots", "--snapshotter", self.kind), True
        while some:  # those without children go first
            keys = [line.split()[0] for line in self.engine(*words, "ls").ok().lines[1:]]
            some = any([self.engine(*words, "rm", key).code == 0 for key in keys])

    def handler(self, name, request, response):
        def answer(message, context):
            try:
                with self.lock:
                    got = getattr(self, name.lower())(message)
            except Failure as failure:
                context.abort(failure.code, str(failure))
            return json_format.ParseDict(got or {}, response())

        def stream(message, context):
            yield answer(message, context)

        codec = {"request_deserializer": request.FromString,
                 "response_serializer": response.SerializeToString}
        if name == "List":
            return grpc.unary_stream_rpc_method_handler(stream, **codec)
        return grpc.unary_unary_rpc_method_handler(answer, **codec)

    # --- files
    def image(self, key):
        """containerd puts its own words before the name that its client chose."""
        return next(entry["image"] for found, entry in self.entries.items()
                    if found.endswith(f"/{key}"))

    @staticmethod
    def detach(entry):
        for device in loops_of(entry["image"]):
            tool("losetup", "-d", device)

    def is_packed(self, entry):
        return self.kind == "packed" and (entry["kind"] == COMMITTED or bool(entry["parent"]))

    def mounts_of(self, entry):
        kind = "erofs" if self.is_packed(entry) else "ext4"
        options = ["ro" if entry["kind"] == VIEW or kind == "erofs" else "rw"]
        source = entry["image"]
        if self.kind == "loop":
            source = (loops_of(source) or tool("losetup", "-f", "--show", source).split())[0]
        else:
            options.append("loop")
        return {"mounts": [{"type": kind, "source": str(source), "options": options}]}

    # --- the service, one method for each of its calls
    def entry(self, key):
        if key not in self.entries:
            raise Failure(grpc.StatusCode.NOT_FOUND, f"snapshot {key}: not found")
        return self.entries[key]

    def add(self, request, kind):
        if request.key in self.entries:
            raise Failure(grpc.StatusCode.ALREADY_EXISTS, f"snapshot {request.key}: exists")
        self.count += 1
        image = self.folder / f"{self.count}.img"
        if request.parent:
            tool("cp", "--sparse=always", self.entry(request.parent)["image"], image)
        else:
            with open(image, "wb") as file:
                file.truncate(self.size)
            tool("mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", image)
        self.entries[request.key] = {"kind": kind, "parent": request.parent, "image": image,
                                     "labels": dict(request.labels)}
        return self.mounts_of(self.entries[request.key])

    def prepare(self, request):
        return self.add(request, ACTIVE)

    def view(self, request):
        return self.add(request, VIEW)

    def mounts(self, request):
        return self.mounts_of(self.entry(request.key))

    def commit(self, request):
        entry = self.entry(request.key)
        self.detach(entry)
        if self.kind == "packed":
            tool(*self.engine.inside("sh", "-c", PACK, "sh", entry["image"]))
        entry.update(kind=COMMITTED, labels=dict(request.labels))
        self.entries[request.name] = self.entries.pop(request.key)

    def remove(self, request):
        entry = self.entry(request.key)
        if any(other["parent"] == request.key for other in self.entries.values()):
            raise Failure(grpc.StatusCode.FAILED_PRECONDITION, f"{request.key} has children")
        self.detach(entry)
        entry["image"].unlink()
        del self.entries[request.key]

    def info(self, key):
        entry = self.entry(key)
        return {"name": key, **{field: entry[field] for field in ("parent", "kind", "labels")}}

    def stat(self, request):
        return {"info": self.info(request.key)}

    def update(self, request):
        self.entry(request.info.name)["labels"] = dict(request.info.labels)
        return {"info": self.info(request.info.name)}

    def list(self, _request):
        return {"info": [self.info(key) for key in self.entries]}

    def usage(self, request):
        return {"size": str(self.entry(request.key)["image"].stat().st_blocks * 512), "inodes": "1"}

    def cleanup(self, _request):
        return {}
