"""Images and root file systems for the tests, written with nothing but Python."""

import hashlib
import io
import json
import os
import pathlib
import re
import stat
import subprocess
import tarfile

BUSYBOX = "/bin/busybox"
PASSWD = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000:Alice:/home/alice:/bin/sh\n"
GROUP = "root:x:0:\nalice:x:1000:\naudio:x:29:alice\n"


def member(name, kind=tarfile.REGTYPE, mode=0o644, link="", uid=0, gid=0):
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname, info.uid, info.gid = kind, mode, link, uid, gid
    return info


def layer(members):
    """A layer's bytes from (TarInfo, contents) pairs."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def applets():
    listed = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True,
                            timeout=30).stdout.split()
    return [name for name in listed if name != "busybox"]


def busybox_layer(hard_links=False):
    """A small system: busybox and its applets, two users, /tmp.

    With hard links one applet can be hidden without the others.
    """
    kind, target = ((tarfile.LNKTYPE, "bin/busybox") if hard_links else
                    (tarfile.SYMTYPE, "busybox"))
    folders = ["bin", "dev", "etc", "proc", "root", "sys", "home", "work"]
    members = [(member(name, tarfile.DIRTYPE, 0o755), b"") for name in folders]
    members.append((member("home/alice", tarfile.DIRTYPE, 0o755, uid=1000, gid=1000), b""))
    members.append((member("tmp", tarfile.DIRTYPE, 0o1777), b""))
    members.append((member("bin/busybox", mode=0o755), pathlib.Path(BUSYBOX).read_bytes()))
    members += [(member("bin/" + name, kind, 0o777, target), b"")
                for name in applets()]
    members.append((member("etc/passwd"), PASSWD.encode()))
    members.append((member("etc/group"), GROUP.encode()))
    return layer(members)


def programs_layer(paths):
    """Programs of this machine at their own paths, with what they load by themselves; others, such
    as plugins, are to be named with them."""
    found = set(map(str, paths))
    for path in list(found):
        told = subprocess.run(["ldd", path], capture_output=True, text=True, timeout=30,
                              check=False).stdout  # static ones have no list
        found.update(re.findall(r"(/\S+) \(0x", told))
    return layer([(member(os.path.normpath(path).lstrip("/"), mode=0o755),
                   pathlib.Path(path).read_bytes()) for path in sorted(found)])


def docker_save(path, layers, config=None, tag="test:latest",
                architecture="amd64"):
    """Writes what `docker save` would: manifest.json, the configuration, the layers."""
    digests = [hashlib.sha256(data).hexdigest() for data in layers]
    document = json.dumps({
        "architecture": architecture, "os": "linux",
        "config": {"Env": ["PATH=/bin:/usr/bin:/sbin:/usr/sbin"], "Cmd": ["sh"], **(config or {})},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + digest for digest in digests]},
    }).encode()
    name = hashlib.sha256(document).hexdigest() + ".json"
    manifest = [{"Config": name, "RepoTags": [tag],
                 "Layers": [digest + "/layer.tar" for digest in digests]}]
    with open(path, "wb") as file:
        file.write(layer([(member(name), document),
                          *((member(digest + "/layer.tar"), data)
                            for digest, data in zip(digests, layers)),
                          (member("manifest.json"), json.dumps(manifest).encode())]))
    return path


def oci_layout(folder, layers, config=None):
    """Writes an OCI image layout: oci-layout, index.json, blobs/sha256."""
    folder = pathlib.Path(folder)
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(data, kind):
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": "application/vnd.oci.image." + kind, "digest": "sha256:" + digest,
                "size": len(data)}

    descriptors = [blob(data, "layer.v1.tar") for data in layers]
    document = {"architecture": "amd64", "os": "linux",
                "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"], **(config or {})},
                "rootfs": {"type": "layers",
                           "diff_ids": [entry["digest"] for entry in descriptors]}}
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "config": blob(json.dumps(document).encode(), "config.v1+json"),
                "layers": descriptors}
    index = {"schemaVersion": 2,
             "manifests": [blob(json.dumps(manifest).encode(), "manifest.v1+json")]}
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return folder


def unpack(layer_bytes, folder):
    """A root file system folder from a layer that we made ourselves."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(layer_bytes)) as archive:
        archive.extractall(folder, numeric_owner=True)
    return folder


def layer_of_folder(folder):
    """The tar of a whole folder, with owners and modes, as bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(os.listdir(folder)):
            archive.add(os.path.join(folder, name), arcname=name)
    return out.getvalue()


def fingerprint(path):
    """Of a file or of a whole tree: names, types, modes, owners, times and contents."""
    digest = hashlib.sha256()
    root = pathlib.Path(path)
    for entry in [root, *sorted(root.rglob("*"))] if root.is_dir() else [root]:
        info = entry.lstat()
        digest.update(repr((str(entry.relative_to(root)), info.st_mode, info.st_uid, info.st_gid,
                            info.st_mtime_ns)).encode())
        if stat.S_ISLNK(info.st_mode):
            digest.update(os.readlink(entry).encode())
        elif stat.S_ISREG(info.st_mode):
            digest.update(entry.read_bytes())
    return digest.hexdigest()
