"""containerd's configuration for the tests: of 1.x (format version 2) and 2.x (version 3)."""

COMMON = """root = "{root}"
state = "{state}"
[grpc]
  address = "{socket}"
[ttrpc]
  address = "{socket}.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{root}/opt"
"""
FORMAT_2 = "version = 2\n" + COMMON + """
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{registries}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "{name}"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}]
      runtime_type = "{runtime}"
      privileged_without_host_devices = true
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}.options]
{options}
"""
FORMAT_3 = "version = 3\n" + COMMON + """
[plugins."io.containerd.cri.v1.images"]
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{pause}"
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = "{registries}"
[plugins."io.containerd.cri.v1.runtime"]
  disable_apparmor = true
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "{name}"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.{name}]
      runtime_type = "{runtime}"
      privileged_without_host_devices = true
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.{name}.options]
{options}
[plugins."io.containerd.grpc.v1.cri"]
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
"""
# One of the tests' own (snapshotter.py), if a test serves it. Their names are not containerd's.
SNAPSHOTTER = """[proxy_plugins.{name}]
  type = "snapshot"
  address = "{address}"
"""
SNAPSHOTTERS = ("loop", "file", "packed")
# Whatever registry an image's name has: this one is asked, without TLS.
REGISTRY = """server = "{url}"
[host."{url}"]
  capabilities = ["pull", "resolve"]
"""


def write(folder, major, registry, binary, **fields):
    """Writes containerd.toml for containerd `major`.x; its path.

    `registry`, if there is one, is the URL of the place that every image is pulled from; `binary`,
    if not empty, is what runc's shim calls in runc's place.
    """
    registries = folder / "registries"
    if registry:
        (registries / "_default").mkdir(parents=True)
        (registries / "_default" / "hosts.toml").write_text(REGISTRY.format(url=registry))
    text = (FORMAT_2 if major < 2 else FORMAT_3).format(
        registries=registries if registry else "",
        options=f'        BinaryName = "{binary}"' if binary else "", **fields)
    text += "".join(SNAPSHOTTER.format(name=name, address=folder / f"{name}.sock")
                    for name in SNAPSHOTTERS)
    path = folder / "containerd.toml"
    path.write_text(text)
    return path
