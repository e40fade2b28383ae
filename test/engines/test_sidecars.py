"""Pods with a sidecar that leads their traffic to itself by a packet filter, as Istio and Linkerd
do, and ports that are forwarded to servers of loopback alone; with the calls of a kubelet."""

import contextlib
import os
import socket
import threading

import pytest
from containerd import FILTERS
from cri import Pod
from host import PATIENCE, eventually
from test_cri import FORWARD, SLEEP, forwarded

PROXY = 1337  # Istio's user
ADMIN = {"add_capabilities": ["NET_ADMIN", "NET_RAW"]}
PATH = [{"key": "PATH", "value": "/bin:/usr/sbin"}]
IPTABLES = """mkdir -p /run
$tool -w -t nat -A PREROUTING -p tcp --dport 8080 -j REDIRECT --to-ports 15006
$tool -w -t nat -A OUTPUT -m owner --uid-owner 1337 -j RETURN
$tool -w -t nat -A OUTPUT -p tcp --dport 9999 -j REDIRECT --to-ports 15001
$tool -w -t nat -S
"""
NFT = """nft -f - << END
table ip mesh {
  chain inbound {
    type nat hook prerouting priority -100;
    tcp dport 8080 redirect to :15006
  }
  chain outbound {
    type nat hook output priority -100;
    meta skuid 1337 return
    tcp dport 9999 redirect to :15001
  }
}
END
nft list ruleset
"""
RULES = {"iptables-legacy": IPTABLES.replace("$tool", "iptables-legacy"),
         "iptables-nft": IPTABLES.replace("$tool", "iptables-nft"), "nft": NFT}


def page(text, *places):
    """A script that serves a page of one line at these places."""
    serve = "; ".join(f"httpd -p {place} -h /www" for place in places)
    return f"mkdir -p /www; echo {text} > /www/index.html; {serve}; exec sleep 100000"


@contextlib.contextmanager
def told_by(engine, address, port, text):
    """A server in the engine's own network, which says this to everybody."""
    with engine.network():
        server = socket.create_server((address, port))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                with connection:
                    connection.settimeout(5)
                    connection.recv(4096)
                    connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + text + b"\n")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(PATIENCE)


def asked(engine, address, port):
    """The page of a server of the pod, asked from its node."""
    with engine.network(), socket.create_connection((address, port), 5) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return connection.makefile("rb").read().splitlines()[-1]


def forwarded_page(engine, pod, cri, port):
    with forwarded(engine, pod, cri, port) as stream:
        stream.send(FORWARD, b"GET / HTTP/1.0\r\n\r\n")
        while stream.receive():
            pass
        return stream.seen[FORWARD].splitlines()[-1]


@pytest.fixture
def pod(cri, engine, name, tmp_path):
    with Pod(cri, engine, name, tmp_path) as made:
        yield made


@pytest.mark.parametrize("tool", RULES)
def test_redirects(pod, cri, engine, tool):
    """In and out; what the proxy itself sends goes where it is sent, and so does what is forwarded
    to the application's port of loopback."""
    app = pod.run("app", "sh", "-c", page("app", "8080"))
    user = {"security_context": {**pod.security, "run_as_user": {"value": str(PROXY)}}}
    proxy = pod.run("proxy", *SLEEP, linux=user)
    # A first container's rules, as istio-init's; it ends before the others are asked anything.
    init = pod.run("init", "sh", "-ec", RULES[tool], image={"image": FILTERS}, envs=PATH,
                   linux={"security_context": {**pod.security, "capabilities": ADMIN}})
    assert pod.ended(init).exit_code == 0, pod.log("init")
    root = pod.run("pages", "sh", "-c", page("proxy", "15006", "15001"))

    address = cri.PodSandboxStatus(pod_sandbox_id=pod.id).status.network.ip
    get = "wget -qO- http://{}:{}/"
    for made, port in ((app, 8080), (root, 15006)):
        eventually(lambda: pod.exec(made, get.format("127.0.0.1", port)).exit_code == 0,
                   what="the servers")
    assert asked(engine, address, 8080) == b"proxy"
    with told_by(engine, "10.202.0.1", 9999, b"beyond"):
        assert pod.exec(app, get.format("10.202.0.1", 9999)).stdout == b"proxy\n"
        assert pod.exec(proxy, get.format("10.202.0.1", 9999)).stdout == b"beyond\n"
    assert forwarded_page(engine, pod, cri, 8080) == b"app"


def test_port_forward_to_loopback(pod, cri, engine):
    """Servers that listen at 127.0.0.1 alone, at ::1 alone, and at both as two different ones."""
    made = pod.run("app", "sh", "-c", page("here", "127.0.0.1:8081", "[::1]:8082"))
    other = pod.run("other", "sh", "-c", page("six", "[::1]:8083"))
    four = pod.run("four", "sh", "-c", page("four", "127.0.0.1:8083"))
    for container, place in ((made, "[::1]:8082"), (other, "[::1]:8083"),
                             (four, "127.0.0.1:8083")):
        eventually(lambda: pod.exec(container, f"wget -qO- http://{place}/").exit_code == 0,
                   what="the server")
    assert forwarded_page(engine, pod, cri, 8081) == b"here"
    assert forwarded_page(engine, pod, cri, 8083) == b"four"
    if engine.name != "runc":  # there the engine looks for localhost in the machine's /etc/hosts
        assert forwarded_page(engine, pod, cri, 8082) == b"here"
    address = cri.PodSandboxStatus(pod_sandbox_id=pod.id).status.network.ip
    for port in (8081, 8083):
        with pytest.raises(OSError):
            asked(engine, address, port)


def test_port_forward_when_the_client_goes(pod, cri, engine):
    """A forwarded connection that is cut off ends at the server, too, and others go on."""
    made = pod.run("echo", "nc", "-ll", "-p", "7777", "-e", "cat")
    eventually(lambda: b":7777 " in pod.exec(made, "netstat -lnt").stdout, what="the server")

    def servers():
        return pod.exec(made, "ps -o args").stdout.splitlines().count(b"cat")
    with forwarded(engine, pod, cri, 7777) as stays:
        with forwarded(engine, pod, cri, 7777) as goes:
            for stream in (stays, goes):
                stream.send(FORWARD, b"word")
                stream.until(FORWARD, b"word")
            assert servers() == 2
        eventually(lambda: servers() == 1, what="the end of one")
        data = os.urandom(200_000)
        stays.send(FORWARD, data)
        stays.until(FORWARD, data[-1000:])
