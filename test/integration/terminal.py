"""A terminal for a command under test."""

import fcntl
import os
import pty
import select
import struct
import termios
import time

from host import PATIENCE


class Terminal:
    def __init__(self, rows, columns):
        self.master, self.slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.slave)
        self.seen = b""
        self.searched = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.master)
        os.close(self.slave)

    def streams(self):
        """Arguments for Popen: the command leads a session on this terminal."""
        def lead():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        return {"stdin": self.slave, "stdout": self.slave, "stderr": self.slave,
                "preexec_fn": lead}

    def resize(self, rows, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resized(self, rows, columns):
        """Resizes, and tells whether the shell inside sees it. To be tried again: engines' clients
        send the first size before they listen for the signal of the next, so one may be lost."""
        self.resize(rows + 1, columns)
        self.resize(rows, columns)
        return self.ask("stty size\n", f"{rows} {columns}")

    def send(self, text):
        os.write(self.master, text.encode())

    def expect(self, text, seconds=PATIENCE):
        """Reads until the text comes; what was searched once is not searched again."""
        assert self.wait(text, seconds), f"no {text!r} in {seconds} s; seen: {self.seen[-2000:]!r}"

    def ask(self, question, answer):
        self.send(question)
        return self.wait(answer, 1)

    def wait(self, text, seconds):
        end = time.monotonic() + seconds
        while True:
            at = self.seen.find(text.encode(), self.searched)
            if at >= 0:
                self.searched = at + len(text)
                return True
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.master], [], [], left)[0]:
                return False
            self.seen += os.read(self.master, 65536)

    def is_sane(self):
        """As it was before the command changed it to raw."""
        return termios.tcgetattr(self.slave)[:4] == self.before[:4]
