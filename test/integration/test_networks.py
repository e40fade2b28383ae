"""What CNI plugins make of a pod's network, below Bulkhead and below runc.

The tests are the same for both: the namespace is what runc's container has.
"""

import contextlib
import ipaddress
import json
import re
import select
import socket
import struct
import time

import pytest
from cni import PLUGINS, Network, has_link_type, static
from host import eventually
from network_lab import NODE, NODE6, PORT, WORLD, WORLD6, Lab, TapPeer, rootfs_with_tools

RUNTIMES = ["bulkhead", "runc"]
MBIT = 1_000_000 / 8
LIMIT = 8 * MBIT
FALSE_MAC = "02:00:00:00:99:99"

pytestmark = pytest.mark.skipif(not PLUGINS.is_dir(), reason="no CNI plugins: run make deps")


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    return rootfs_with_tools(tmp_path_factory.mktemp("tools") / "rootfs")


@pytest.fixture(scope="module", params=RUNTIMES)
def lab(request, tools):
    made = Lab(request.param, tools)
    try:
        made.serve(made.node)
        made.serve(made.world)
        made.serve(made.side)
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def pod(lab):
    """One with many interfaces, as Multus makes them."""
    made = lab.pod("many")
    made.attach(lab.bridge, "eth0", portMappings=[
        {"hostPort": 18000, "containerPort": PORT, "protocol": protocol}
        for protocol in ("tcp", "udp")])
    made.attach(lab.macvlan("10.5.0.10/24"), "net1")
    made.attach(lab.ptp("10.6.2.0/24", {
        "type": "tuning", "mac": "02:00:00:00:02:02", "dataDir": str(lab.host.folder / "tuning"),
        "sysctl": {"net.ipv4.conf.net2.rp_filter": "2"}}, {"type": "sbr"},
        routes=("0.0.0.0/0",)), "net2")
    made.attach(lab.host_device("dev3", "10.7.0.10/24"), "net3")
    made.attach(lab.ptp("10.6.4.0/24", mtu=9000), "net4")
    made.netns("ip", "neigh", "add", "10.7.0.99", "lladdr", "02:00:00:00:07:99", "nud", "permanent",
               "dev", "net3")
    tap = TapPeer(made.netns, "tap0", "10.0.2.2")
    try:
        for words in ("addr add 10.0.2.100/24 dev tap0", "link set tap0 up"):
            made.netns("ip", *words.split())
        yield made.create().start()
    finally:
        made.end()
        tap.close()


@pytest.fixture(scope="module")
def peer(lab):
    """Another one on the same bridge, which lets only its own MAC address in; its second interface
    is one whose rate is limited."""
    made = lab.pod("peer")
    bridge, *more = lab.bridge.plugins
    made.attach(Network(lab.node, "bridge", {**bridge, "macspoofchk": True}, *more,
                        {"type": "firewall", "backend": "iptables"}), "eth0")
    made.attach(lab.ptp("10.6.3.0/24", {
        "type": "bandwidth", "ingressRate": int(LIMIT * 8), "ingressBurst": 400_000,
        "egressRate": int(LIMIT * 8), "egressBurst": 400_000}), "net1")
    return made.create().start()


# --- what it looks like
def described(links, addresses, routes, rules, neighbours):
    """What `ip -j` tells, without what is its own on either side."""
    names = [link["ifname"] for link in links if not link["ifname"].startswith("bhtap")]
    return {
        "links": {link["ifname"]: (link["address"], link["mtu"], "UP" in link["flags"])
                  for link in links if link["ifname"] in names},
        "addresses": {link["ifname"]: sorted((each["local"], each["prefixlen"], each["scope"])
                                             for each in link["addr_info"])
                      for link in addresses if link["ifname"] in names},
        "routes": sorted(tuple(str(route.get(key)) for key in ROUTE) for route in routes
                         if route.get("table") != "local"),
        "rules": sorted((rule["priority"], rule["src"], rule.get("table")) for rule in rules),
        "neighbours": sorted((each["dst"], each["lladdr"], each["dev"]) for each in neighbours)}


ROUTE = ["dst", "gateway", "dev", "metric", "table", "prefsrc", "scope", "type"]
DESCRIPTION = ["link", "addr", "route show table all", "rule", "neigh show nud permanent"]


def same_lists(ask):
    told = [ask(words) for words in DESCRIPTION]
    told[2] += ask("-6 route show table all")
    told[3] += ask("-6 rule")
    return described(*told)


def test_its_description_is_the_namespaces(pod):
    outside = same_lists(lambda words: json.loads(pod.netns("ip", "-j", *words.split()) or "[]"))
    inside = same_lists(lambda words: pod.ip(words))
    assert set(outside["links"]) == {"lo", "eth0", "net1", "net2", "net3", "net4",
                                     "tap0"}
    assert inside == outside
    assert inside["links"]["net2"] == ("02:00:00:00:02:02", 1500, True)  # by the plugin `tuning`
    assert (32765, pod.attached[2].addresses[0], "100") in inside["rules"]  # by `sbr`
    assert inside["neighbours"] == [("10.7.0.99", "02:00:00:00:07:99", "net3")]


def test_it_is_inspected(lab, pod):
    if not lab.is_vm:
        pytest.skip("of Bulkhead")
    told = json.loads(lab.engine("inspect", pod.name).ok().text)
    assert told["pod"] and told["containers"] == [pod.name]
    assert told["vm"]["accelerator"] in ("kvm", "tcg") and told["vm"]["pid"] > 1
    network = told["network"]
    assert network["kind"] == "namespace" and network["left_out"] == []
    links = {link["ifname"]: link for link in json.loads(pod.netns("ip", "-j", "link"))}
    found = {each["name"]: each for each in network["interfaces"]}
    assert set(found) == {"eth0", "net1", "net2", "net3", "net4", "tap0"}
    for name, each in found.items():
        nic = each["nic"]
        assert (each["mac"], each["mtu"]) == (links[name]["address"], links[name]["mtu"])
        assert nic["tap"] == f"bhtap{links[name]['ifindex']}" and nic["tap"] in links
        assert nic["plugged"] and nic["queues"] == told["vm"]["vcpus"]
        assert nic["model"] in ("tc", "macvtap")
    assert (found["eth0"]["kind"], found["net1"]["kind"]) == ("veth", "macvlan")
    assert pod.attached[0].addresses[0] + "/24" in found["eth0"]["addresses"]


def test_its_interfaces_are_counted(lab, pod):
    def counters():
        told = json.loads(lab.engine("events", "--stats", pod.name).ok().text)
        return {each["Name"]: each for each in told["data"]["network_interfaces"]}
    if not lab.is_vm:
        pytest.skip("runc does not count these, but in control groups of v1")
    before = counters()
    assert lab.probe(lab.node, "tcp", pod.address, PORT, 100_000, 1) == "1 echoed"
    after = counters()
    assert set(after) == {"eth0", "net1", "net2", "net3", "net4", "tap0"}
    assert after["eth0"]["RxBytes"] - before["eth0"]["RxBytes"] > 100_000
    assert after["eth0"]["TxPackets"] > before["eth0"]["TxPackets"]
    assert after["net3"]["RxBytes"] - before["net3"]["RxBytes"] < 10_000


def test_sysctls_of_a_plugin(pod):
    assert pod.run("cat /proc/sys/net/ipv4/conf/net2/rp_filter") == "2"


# --- that it works
FAMILIES = ["IPv4", "IPv6"]


def gateway(family):
    return "10.4.1.1" if family == "IPv4" else "fd00:4:1::1"


def address_of(pod, family):
    return pod.address if family == "IPv4" else pod.address6


@pytest.mark.parametrize("family", FAMILIES)
def test_bridge(lab, pod, family):
    """Pings, and both protocols both ways: with its node, and with who is beyond it."""
    here, beyond = gateway(family), WORLD if family == "IPv4" else WORLD6
    assert pod.pings(here)
    for there in (here, beyond):
        assert pod.probe("tcp", there, PORT, 100_000, 1) == "1 echoed"
        assert pod.probe("udp", there, PORT, 500) == "echoed"
    for where in (lab.node, lab.world):
        assert lab.probe(where, "tcp", address_of(pod, family), PORT, 100_000, 1) == "1 echoed"
        assert lab.probe(where, "udp", address_of(pod, family), PORT, 500) == "echoed"


@pytest.mark.parametrize("family", FAMILIES)
def test_pod_to_pod(pod, peer, family):
    for one, other in ((pod, peer), (peer, pod)):
        there = address_of(other, family)
        assert one.pings(there)
        assert one.probe("tcp", there, PORT, 300_000, 2) == "2 echoed"
        assert one.probe("udp", there, PORT, 1000) == "echoed"


def test_addresses_of_the_link_alone(lab, pod):
    """fe80::, which nobody has assigned."""
    def of(link):
        return next(each["local"] for each in link["addr_info"]
                    if each["family"] == "inet6" and each["scope"] == "link")
    bridge, = json.loads(lab.node("ip", "-j", "addr", "show", "br0"))
    inside, = pod.ip("addr show eth0")
    assert pod.probe("tcp", of(bridge) + "%eth0", PORT, 1000, 1) == "1 echoed"
    assert lab.probe(lab.node, "tcp", of(inside) + "%br0", PORT, 1000, 1) == "1 echoed"


def test_many_connections(lab, pod):
    assert lab.probe(lab.node, "tcp", pod.address, PORT, 20_000, 100) == "100 echoed"
    assert pod.probe("tcp", gateway("IPv4"), PORT, 20_000, 100) == "100 echoed"


@pytest.mark.parametrize("options", [[], ["-R"], ["-6"], ["-6", "-R"]], ids=" ".join)
def test_iperf(lab, pod, options):
    """A load that is not ours, there and back."""
    server = lab.node.start("iperf3", "-s", "-1")
    there = gateway("IPv6" if "-6" in options else "IPv4")
    try:
        eventually(lambda: ":5201 " in lab.node("ss", "-Hlnt") + " ", what="the server")
        told = json.loads(pod.run(f"iperf3 -J -c {there} -t 2 {' '.join(options)}"))
        assert "error" not in told and told["end"]["sum_received"]["bytes"] > 1_000_000, told
    finally:
        server.terminate()
        server.wait(10)


# --- sizes of frames
@pytest.mark.parametrize(("pick", "there", "mtu", "heads"), [
    ("eth0", "10.4.1.1", 1400, 28), ("eth0", "fd00:4:1::1", 1400, 48),
    ("net4", "10.6.4.1", 9000, 28)], ids=["1400", "1400-IPv6", "9000"])
def test_frames_of_full_size(lab, pod, pick, there, mtu, heads):
    """What fits does so in both directions, and a byte more is refused before it leaves."""
    ours = next(each for attached in pod.attached if attached.interface == pick
                for each in attached.addresses if (":" in each) == (":" in there))
    for size, says in ((mtu - heads, "echoed"), (mtu - heads + 1, "too large")):
        assert pod.probe("udp", there, PORT, size) == says
        assert lab.probe(lab.node, "udp", ours, PORT, size) == says


def test_a_narrow_path(lab, pod):
    """The node tells the guest that a frame was too large for what is beyond."""
    lab.node("ip", "link", "set", "up0", "mtu", "1300")
    try:
        assert pod.probe("udp", WORLD, PORT, 1372) == "too large"
        assert pod.probe("udp", WORLD, PORT, 1272) == "echoed"
        assert pod.probe("tcp", WORLD, PORT, 100_000, 1) == "1 echoed"
    finally:
        lab.node("ip", "link", "set", "up0", "mtu", "1500")
        pod.run("/usr/sbin/ip route flush cache")


# --- plugins
def test_published_ports(lab, pod):
    """`portmap`: from beyond the node, and of the pod itself, which needs the hairpin."""
    for there in (NODE, NODE6):
        assert lab.probe(lab.world, "tcp", there, 18000, 100_000, 3) == "3 echoed"
        assert lab.probe(lab.world, "udp", there, 18000, 500) == "echoed"
        assert pod.probe("tcp", there, 18000, 10_000, 1) == "1 echoed"


@pytest.mark.parametrize(("index", "there"), [(1, "10.5.0.1"), (3, "10.7.0.1"), (4, "10.6.4.1")],
                         ids=["macvlan", "host-device", "ptp"])
def test_further_interfaces(lab, pod, index, there):
    peer = lab.node if there == "10.6.4.1" else lab.side
    ours, = pod.attached[index].addresses
    assert pod.probe("tcp", there, PORT, 100_000, 2) == "2 echoed"
    assert lab.probe(peer, "tcp", ours, PORT, 100_000, 2) == "2 echoed"
    assert lab.probe(peer, "udp", ours, PORT, 1000) == "echoed"


def test_tap(pod):
    """As slirp4netns makes one."""
    assert pod.pings("10.0.2.2")


def test_routes_by_source(lab, pod):
    """`sbr`: what is asked at an interface is answered there, wherever the default route leads."""
    ours, = pod.attached[2].addresses
    outside = pod.attached[2].result["interfaces"][0]["name"]

    def bytes_out():
        link, = json.loads(lab.node("ip", "-s", "-j", "link", "show", outside))
        return link["stats64"]["rx"]["bytes"]
    before = bytes_out()
    assert lab.probe(lab.world, "tcp", ours, PORT, 200_000, 1) == "1 echoed"
    assert bytes_out() - before >= 200_000


def test_permanent_neighbour(lab, pod):
    """Frames for it go where it was said to be, though nobody there answers."""
    with lab.side.entered():
        seen = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    with seen:
        seen.bind(("eth1", 0))
        assert pod.probe("udp", "10.7.0.99", PORT, 77) == "lost"
        frames = []
        while select.select([seen], [], [], 0)[0]:
            frames.append(seen.recv(2000))
    assert [frame for frame in frames
            if frame[:6] == bytes.fromhex("020000000799") and frame[12:14] == b"\x08\0"]


def test_ipvlan(lab):
    if not has_link_type("ipvlan"):
        pytest.skip("this kernel makes no ipvlan")
    made = lab.pod("ipvlan")
    lab.node("ip", "link", "add", "wire1", "type", "veth", "peer", "name", "eth2", "netns",
             lab.side.path)
    lab.side("ip", "addr", "add", "10.8.0.1/24", "dev", "eth2")
    for where, link in ((lab.side, "eth2"), (lab.node, "wire1")):
        where("ip", "link", "set", link, "up")
    made.attach(Network(lab.node, "ipvlan", {
        "type": "ipvlan", "master": "wire1", "mode": "l2", "ipam": static("10.8.0.10/24")}), "eth0")
    made.create().start()
    assert made.probe("tcp", "10.8.0.1", PORT, 100_000, 2) == "2 echoed"
    assert lab.probe(lab.side, "tcp", "10.8.0.10", PORT, 100_000, 2) == "2 echoed"
    made.end()


@pytest.mark.parametrize("verb", ["push", "pull"])
@pytest.mark.parametrize("by", ["pod", "node"])
def test_bandwidth(lab, peer, by, verb):
    """Both directions, by who connects; the first moment is the bucket's, not the rate's."""
    ours, = peer.attached[1].addresses
    told = peer.probe(verb, "10.6.3.1", PORT, 3000) if by == "pod" else \
        lab.probe(lab.node, verb, ours, PORT, 3000)
    assert 0.6 * LIMIT < float(told) < 1.15 * LIMIT, f"{float(told) / MBIT} Mbit/s"


# --- what the host forbids
@contextlib.contextmanager
def rule(netns, *words):
    """A rule of iptables for a while."""
    tool, chain, *rest = words
    netns(tool, "-w", "-I", chain, *rest)
    try:
        yield
    finally:
        netns(tool, "-w", "-D", chain, *rest)


def refused(ask):
    """The probe's connection does not come about."""
    start = time.monotonic()
    with pytest.raises(AssertionError, match="connect|0 echoed"):
        assert ask() == "1 echoed"
    return time.monotonic() - start


@pytest.mark.parametrize(("tool", "family"), [("iptables", "IPv4"), ("ip6tables", "IPv6")])
def test_policy_of_forwarding(lab, pod, tool, family):
    """A port of the pod is shut for those beyond the node, by its own packet filter; UDP is not."""
    ours, there = address_of(pod, family), WORLD if family == "IPv4" else WORLD6
    reject = ["-p", "tcp", "--dport", PORT, "-j", "REJECT", "--reject-with", "tcp-reset"]
    with rule(lab.node, tool, "FORWARD", "-d", ours, *reject):
        refused(lambda: lab.probe(lab.world, "tcp", ours, PORT, 10, 1))
        assert lab.probe(lab.world, "udp", ours, PORT, 10) == "echoed"
    assert lab.probe(lab.world, "tcp", ours, PORT, 10, 1) == "1 echoed"
    with rule(lab.node, tool, "FORWARD", "-s", ours, *reject):
        refused(lambda: pod.probe("tcp", there, PORT, 10, 1))
    with rule(lab.node, tool, "FORWARD", "-s", ours, "-p", "udp", "-j", "DROP"):
        assert pod.probe("udp", there, PORT, 10) == "lost"
    assert pod.probe("udp", there, PORT, 10) == "echoed"


def test_policy_between_pods(lab, pod, peer):
    """On one bridge: frames pass the node's packet filter, as kube-proxy and policies want it."""
    lab.node("sh", "-c", "echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables")
    drop = ["-s", pod.address, "-d", peer.address, "-p", "udp", "-j", "DROP"]
    with rule(lab.node, "iptables", "FORWARD", *drop):
        assert pod.probe("udp", peer.address, PORT, 10) == "lost"
        assert pod.probe("tcp", peer.address, PORT, 10, 1) == "1 echoed"
    assert pod.probe("udp", peer.address, PORT, 10) == "echoed"


@contextlib.contextmanager
def nft(netns, rules):
    if netns.code("nft", "add", "table", "bridge", "probe") != 0:
        pytest.skip("this kernel has no nftables of bridges")
    netns("nft", "delete", "table", "bridge", "probe")
    netns("nft", "-f", "-", input=rules)
    try:
        yield
    finally:
        family = rules.split()[1]
        netns("nft", "delete", "table", family, "rules")


def test_nftables(lab, pod):
    with nft(lab.node, "table inet rules { chain through { type filter hook forward priority 0; "
             f"ip daddr {pod.address} udp dport {PORT} drop; }}; }};\n"):
        assert lab.probe(lab.world, "udp", pod.address, PORT, 10) == "lost"
        assert lab.probe(lab.world, "tcp", pod.address, PORT, 10, 1) == "1 echoed"


def datagram(source_mac, target_mac, source, target, port, payload):
    """A frame with a UDP datagram in it; without UDP's checksum, which IPv4 allows."""
    udp = struct.pack(">HHHH", port, port, 8 + len(payload), 0) + payload
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0,
                       ipaddress.ip_address(source).packed, ipaddress.ip_address(target).packed)
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack(">H", ~total & 0xFFFF) + head[12:]
    macs = bytes.fromhex((target_mac + source_mac).replace(":", ""))
    return (macs + b"\x08\0" + head + udp).hex()


@pytest.fixture
def arrived(lab):
    """What comes of frames that a pod sends to its node: {name: (MAC, IP) of the sender}."""
    with lab.node.entered():
        receiver = socket.socket(type=socket.SOCK_DGRAM)
    bridge, = (link["address"] for link in json.loads(lab.node("ip", "-j", "link", "show", "br0")))

    def ask(pod, frames):
        for name, (mac, address) in frames.items():
            pod.run("net-probe frame eth0 " + datagram(mac, bridge, address, "10.4.1.1", 7999,
                                                       name.encode()))
        found = set()
        while select.select([receiver], [], [], 1)[0]:
            found.add(receiver.recv(100).decode())
        return found
    with receiver:
        receiver.bind(("10.4.1.1", 7999))
        yield ask
        for entry in json.loads(lab.node("bridge", "-j", "fdb")):  # they have led the bridge astray
            if entry["mac"] == FALSE_MAC:
                lab.node("bridge", "fdb", "del", FALSE_MAC, "dev", entry["ifname"], "master")


def test_false_senders(lab, pod, arrived):
    """A node that allows a pod one MAC and one IP address stops frames that tell of others."""
    mac, = (link["address"] for link in pod.ip("link show eth0"))
    outside = next(each["name"] for each in pod.attached[0].result["interfaces"]
                   if each["name"].startswith("veth"))
    frames = {"honest": (mac, pod.address), "MAC": (FALSE_MAC, pod.address),
              "IP": (mac, "10.4.1.77")}
    assert arrived(pod, frames) == set(frames)
    with nft(lab.node, "table bridge rules { chain in { type filter hook prerouting "
             f"priority -300; iifname {outside} ether saddr != {mac} drop; iifname {outside} "
             f"ip saddr != {pod.address} drop; }}; }};\n"):
        assert arrived(pod, frames) == {"honest"}


def test_check_of_mac_addresses(lab, peer, arrived):
    """The plugin `bridge` with `macspoofchk`."""
    if lab.node.code("nft", "list", "table", "bridge", "nat") != 0:
        pytest.skip("the plugin has made no rules: it, or nft, is too old")
    mac, = (link["address"] for link in peer.ip("link show eth0"))
    frames = {"honest": (mac, peer.address), "MAC": (FALSE_MAC, peer.address)}
    assert arrived(peer, frames) == {"honest"}


def test_firewall(lab, pod, peer):
    """Where nothing is forwarded but what the pods of the plugin `firewall` begin."""
    lab.node("iptables", "-w", "-P", "FORWARD", "DROP")
    try:
        assert lab.probe(lab.world, "udp", peer.address, PORT, 10) == "lost"
        assert peer.probe("tcp", WORLD, PORT, 1000, 1) == "1 echoed"
        assert pod.probe("udp", WORLD, PORT, 10) == "lost"
        assert lab.probe(lab.world, "udp", pod.address, PORT, 10) == "lost"
    finally:
        lab.node("iptables", "-w", "-P", "FORWARD", "ACCEPT")
    assert pod.probe("udp", WORLD, PORT, 10) == "echoed"


@pytest.mark.parametrize("model", ["tc", "macvtap"])
def test_models_with_several_queues(tools, model):
    """A macvtap in place of traffic control, where one can be made; a queue for each CPU."""
    with contextlib.closing(Lab("bulkhead", tools, vcpus=2)) as lab:
        with lab.host.config.open("a") as file:
            file.write(f'[network]\nmodel = "{model}"\n')
        lab.serve(lab.node)
        pod = lab.pod(model)
        pod.attach(lab.bridge, "eth0")
        pod.attach(lab.macvlan("10.5.0.10/24"), "net1")
        before = pod.netns("ip", "-d", "addr")
        pod.create().start()
        told = json.loads(lab.engine("inspect", pod.name).ok().text)
        assert {each["name"]: (each["nic"]["model"], each["nic"]["queues"])
                for each in told["network"]["interfaces"]} == {"eth0": (model, 2), "net1": ("tc", 2)}
        inside, = pod.ip("-d link show eth0")
        assert (inside["num_tx_queues"], inside["num_rx_queues"]) == (2, 2)
        assert pod.run("grep -c 'virtio[0-9]*-input.1' /proc/interrupts") == "2"  # of each NIC
        for family in FAMILIES:
            assert pod.pings(gateway(family))
            assert pod.probe("tcp", gateway(family), PORT, 100_000, 3) == "3 echoed"
            assert lab.probe(lab.node, "udp", address_of(pod, family), PORT, 500) == "echoed"
        pod.end()
        eventually(lambda: "bhtap" not in pod.netns("ip", "link"), what="its end")
        assert links_of(pod.netns("ip", "-d", "addr")) == links_of(before)


def links_of(text):
    """Without what counts down or changes by itself, and the queue (decision 0008)."""
    return [re.sub(r"(qlen|qdisc|promiscuity|allmulti) \S+ ?|valid_lft.*|tentative", "", line).strip()
            for line in text.splitlines()]
