"""Networks, and namespaces that are another's."""

import contextlib
import select
import socket
import threading
import time

import pytest
from engine import IMAGE
from host import PATIENCE, eventually

SERVE = "mkdir /www && echo page > /www/index.html && echo ready && exec httpd -f -p 8080 -h /www"
LINKS = "ls /sys/class/net"


def page(engine, address, port):
    """What the server answers to somebody in the engine's own network."""
    with engine.network():
        connection = socket.socket()
    with connection, contextlib.suppress(OSError):
        connection.settimeout(3)
        connection.connect((address, port))
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        while chunk := connection.recv(4096):
            answer += chunk
        return answer.decode().splitlines()[-1:]
    return None


@contextlib.contextmanager
def names_at(address, engine):
    """A name server in the engine's own network that knows one address for every name."""
    with engine.network():
        udp, tcp = socket.socket(type=socket.SOCK_DGRAM), socket.socket()
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    udp.bind((address, 53))
    tcp.bind((address, 53))
    tcp.listen()
    stop = threading.Event()

    def answer(query):
        question = query[12:query.index(b"\0", 12) + 5]
        return query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + question + \
            b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\7"

    def serve():
        while not stop.is_set():
            for ready in select.select([udp, tcp], [], [], 0.2)[0]:
                if ready is udp:
                    query, client = udp.recvfrom(4096)
                    udp.sendto(answer(query), client)
                    continue
                connection, _ = tcp.accept()
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(5)
                    reply = answer(connection.recv(4096)[2:])
                    connection.sendall(len(reply).to_bytes(2, "big") + reply)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(PATIENCE)
        udp.close()
        tcp.close()


def test_no_network(engine, same):
    told = engine.shell(LINKS, "--network", "none").ok()
    same("links", told.text.split(), ["lo"])
    told = engine.shell("ip -4 -o addr show lo | grep -c 127.0.0.1", "--network", "none").ok()
    same("loopback", told.text, "1\n")


def test_bridge(engine, same):
    """It has a link and a route, and reaches what the engine's machine serves."""
    with engine.network():
        server = socket.create_server(("0.0.0.0", 0))

    def serve():
        with contextlib.suppress(OSError):
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"from the host\n")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        told = engine.shell(f"{LINKS}; "
                            "gate=$(ip route | sed -n 's/^default via \\([^ ]*\\).*/\\1/p'); "
                            "ip -4 -o addr show eth0 | grep -c inet; ping -c 1 -W 5 $gate > "
                            "/dev/null && echo pinged; "
                            f"nc -w 5 $gate {server.getsockname()[1]} < /dev/null",
                            "--cap-add", "NET_RAW").ok()
        same("words", told.lines, ["eth0", "lo", "1", "pinged", "from the host"])
    finally:
        server.close()
        thread.join(PATIENCE)


def test_published_port(engine, same, name):
    with engine.script(name, SERVE, "-p", "127.0.0.1:18080:8080"):
        told = eventually(lambda: page(engine, "127.0.0.1", 18080), what="the page")
        same("page", told, ["page"])
        same("is told", "18080" in engine("port", name).ok().text, True)
    same("afterwards", page(engine, "127.0.0.1", 18080), None)


def test_published_udp_port(engine, same, name):
    with engine.network():
        connection = socket.socket(type=socket.SOCK_DGRAM)
    with connection, engine.script(name, "exec echo-udp 9999", "-p",
                                   "127.0.0.1:19999:9999/udp"):
        connection.settimeout(1)

        def echoed():
            with contextlib.suppress(OSError):
                connection.sendto(b"word", ("127.0.0.1", 19999))
                return connection.recv(100)
            return None

        same("echo", eventually(echoed, what="the echo"), b"word")


def test_network_with_names(engine, same, name):
    with engine.made("network", name), \
            engine.script(name, SERVE, "--network", name, "--network-alias", "other"):
        for host in (name, "other"):
            told = engine.run("--network", name, IMAGE, "fetch", host, "8080")
            same("page", (told.code, told.text), (0, "page\n"))


@pytest.mark.engines("docker")
def test_names_over_every_protocol(engine, same, name):
    """The port of names is the engine's name server's, and still the container's own, too."""
    script = "hold 53 & sleep 1; for how in udp connected tcp; do ask $how there; done"
    with engine.made("network", name, "--subnet", "10.208.0.0/24"), \
            engine.script(name, SERVE, "--network", name, "--network-alias", "there",
                          "--ip", "10.208.0.77"):
        told = engine.shell(script, "--network", name)
        same("words", (told.code, told.lines), (0, ["held"] + 3 * ["53 0 10.208.0.77"]))


@pytest.mark.engines("docker")
def test_names_from_elsewhere(engine, same, name):
    """What the engine's name server asks another one, from within the container's network."""
    with engine.made("network", name, "--subnet", "10.208.0.0/24"), names_at("10.208.0.1", engine):
        told = engine.shell("ask udp elsewhere.example; ask tcp elsewhere.example",
                            "--network", name, "--dns", "10.208.0.1")
        same("words", (told.code, told.lines), (0, 2 * ["53 0 192.0.2.7"]))


def test_network_while_it_runs(engine, same, name):
    def links():
        return engine.exec(name, "sh", "-c", LINKS).ok().text.split()

    with engine.made("network", name), engine.script(name, "echo ready; exec sleep 1000"):
        engine("network", "connect", name, name).ok()
        eventually(lambda: links() == ["eth0", "eth1", "lo"], 20, "the link")
        told = engine.exec(name, "sh", "-c", "ip -4 -o addr show eth1 | grep -c inet").ok()
        same("address", told.text, "1\n")
        engine("network", "disconnect", name, name).ok()
        eventually(lambda: links() == ["eth0", "lo"], 20, "the link's end")


def test_network_of_another(engine, same, name):
    with engine.script(name, SERVE):
        told = engine.run("--network", f"container:{name}", IMAGE, "fetch", "127.0.0.1", "8080")
        same("page", (told.code, told.text), (0, "page\n"))
        same("links", engine.shell(LINKS, "--network", f"container:{name}").ok().text.split(),
             ["eth0", "lo"])


def test_processes_of_another(engine, same, name):
    with engine.script(name, "echo ready; exec sleep 1003"):
        told = engine.shell("ps | grep 'sleep [1]003'", "--pid", f"container:{name}").ok()
        same("its number", told.text.split()[0], "1")


def test_shared_memory_of_another(engine, same, name):
    with engine.script(name, "echo word > /dev/shm/file; echo ready; exec sleep 1000",
                       "--ipc", "shareable"):
        told = engine.shell("cat /dev/shm/file", "--ipc", f"container:{name}").ok()
        same("file", told.text, "word\n")


def test_shared_memory_after_a_restart(engine, same, name):
    """The pod lives on. Docker's is empty again; Podman may keep its own, if it is quick."""
    with engine.script(name, "echo ready; exec sleep 1000"), \
            engine.script(f"{name}-b", "ls /dev/shm | wc -l; touch /dev/shm/file; exec sleep 1000",
                          "--network", f"container:{name}", "--ipc", "shareable"):
        engine("restart", "-t", "0", f"{name}-b").ok()
        eventually(lambda: len(engine("logs", f"{name}-b").ok().lines) == 2, what="its new start")
        same("starts", len(engine("logs", f"{name}-b").ok().lines), 2)
        if engine.kind == "docker":
            same("files", engine("logs", f"{name}-b").ok().lines, ["0", "0"])


def test_network_of_the_host(engine, same, box):  # which has a link there
    told = engine.shell(LINKS + " | grep -v lo; true", "--network", "host")
    same("exit code", told.code, 0)
    same("links", sorted(told.text.split()), sorted(engine.links()))


def test_processes_of_the_host(engine, same):
    told = engine.shell(f"[ -d /proc/{engine.holder.pid} ] && echo there", "--pid", "host")
    same("exit code", told.code, 0)
    same("the engine's own", told.text, "there\n")


def test_addresses(engine, same, name):
    """An address of one's own choice, as the engine and the container see it."""
    with engine.made("network", name, "--subnet", "10.208.0.0/24"):
        with engine.script(name, "echo ready; exec sleep 1000", "--network", name, "--ip",
                           "10.208.0.77", "--mac-address", "02:00:00:00:00:07", "--cap-add",
                           "NET_RAW"):
            told = engine.exec(name, "sh", "-c", "ip addr show eth0").ok()
            same("address", "10.208.0.77/24" in told.text, True)
            same("hardware address", "02:00:00:00:00:07" in told.text, True)
            start = time.monotonic()
            told = engine.exec(name, "ping", "-c", "1", "-W", "5", "10.208.0.1")
            same("gateway", (told.code, time.monotonic() - start < PATIENCE), (0, True))
