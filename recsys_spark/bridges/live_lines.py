"""Lines of text from a rank to the driver as they are said.

Horovod hands the ranks' output over in pieces of 64 KiB: a progress bar would arrive when the training is over. So
the driver listens on a port of its own and rank 0 sends its lines there. A rank that cannot reach it trains in silence.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class LineAddress:
    """Where lines go; the token keeps other programs' words out of our log."""

    host: str
    port: int
    token: str


@contextlib.contextmanager
def receive_lines(host: str, say: Callable[[str], None]) -> Iterator[LineAddress]:
    """Listen while the block runs; `host` is this machine as the ranks' machines name it."""
    token = secrets.token_hex(8)

    class Receiver(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            if self.rfile.readline().decode().strip() == token:
                for line in self.rfile:
                    say(line.decode(errors="replace").rstrip("\n"))

    server = socketserver.ThreadingTCPServer(("", 0), Receiver)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True, name="live lines").start()
    try:
        yield LineAddress(host, server.server_address[1], token)
    finally:
        server.shutdown()
        server.server_close()


def open_line(address: LineAddress) -> Callable[[str], None]:
    """A function that sends a line to the driver; sending never fails, lines that cannot be sent are dropped."""
    connection: socket.socket | None = None
    with contextlib.suppress(OSError):
        connection = socket.create_connection((address.host, address.port), timeout=10)
        connection.sendall(f"{address.token}\n".encode())

    def send(line: str) -> None:
        with contextlib.suppress(OSError):
            if connection is not None:
                connection.sendall(f"{line}\n".encode())

    return send
