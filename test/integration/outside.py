"""A server outside: `outside.py NAME ADDRESS...` answers on TCP and UDP at port 7000 of each address,
and names of example.test on UDP at port 53. Says "ready" once it listens.
"""

import selectors
import socket
import struct
import sys

PORT = 7000
NAMES = {b"server.example.test": "203.0.113.1"}


def answer_name(question):
    """A DNS answer with the one address of that name; else there is none of it."""
    words, at = [], 12
    while question[at]:
        words.append(question[at + 1:at + 1 + question[at]])
        at += 1 + question[at]
    asked = question[12:at + 5]
    kind = struct.unpack("!H", question[at + 1:at + 3])[0]
    address = NAMES.get(b".".join(words).lower())
    found = address is not None and kind == 1
    head = question[:2] + struct.pack("!HHHHH", 0x8580 if address else 0x8583, 1, int(found), 0, 0)
    record = struct.pack("!HHHIH", 0xc00c, 1, 1, 60, 4) + socket.inet_aton(address) if found else b""
    return head + asked + record


def listen(kind, address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    if kind == socket.SOCK_STREAM:
        made.listen()
    return made


def main(name, *addresses):
    chosen = selectors.DefaultSelector()
    for address in addresses:
        for kind, port in ((socket.SOCK_STREAM, PORT), (socket.SOCK_DGRAM, PORT),
                           (socket.SOCK_DGRAM, 53)):
            chosen.register(listen(kind, address, port), selectors.EVENT_READ, (kind, port))
    print("ready", flush=True)
    while True:
        for key, _ in chosen.select():
            kind, port = key.data
            if kind == socket.SOCK_STREAM:
                with key.fileobj.accept()[0] as client:
                    client.settimeout(5)
                    client.sendall(f"{name} tcp {client.recv(100).decode()}".encode())
            else:
                data, client = key.fileobj.recvfrom(2000)
                told = answer_name(data) if port == 53 else f"{name} udp {data.decode()}".encode()
                key.fileobj.sendto(told, client)


if __name__ == "__main__":
    main(*sys.argv[1:])
