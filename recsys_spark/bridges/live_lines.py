"""Lines of text from a rank to the driver as they are said.

Horovod hands the ranks' output over in pieces of 64 KiB: a progress bar would arrive when the training is over. So
the driver listens on a port of its own and rank 0 sends its lines there. A rank that cannot reach it trains in silence.

Whoever reaches the port may connect, so a stranger costs little: at most a token's length is read before the token is
right, for a few seconds, in one of a few threads.
"""

from __future__ import annotations

import contextlib
import hmac
import secrets
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from recsys_spark.errors import printable

MAX_LINE_BYTES: Final = 2**12
"""A longer line is said in pieces."""
MAX_CONNECTIONS: Final = 16
"""Rank 0 needs one; one more for each time that it was started again and its end was not noticed."""
_PATIENCE_SECONDS: Final = 5
"""How long a connection may take to say the token."""


@dataclass(frozen=True)
class LineAddress:
    """Where lines go; the token keeps other programs' words out of our log."""

    host: str
    port: int
    token: str


@contextlib.contextmanager
def receive_lines(host: str, say: Callable[[str], None], *, listen_on: str | None = None) -> Iterator[LineAddress]:
    """Listen while the block runs, on the address `listen_on` of this machine; `host` is its name for the ranks.

    Lines come without control characters. Where the address cannot be listened on, that is said and ranks are silent.
    """
    token = secrets.token_hex(16)
    try:
        server = _LineServer(listen_on or host, token, say)
    except OSError as error:
        say(f"no progress will be shown: cannot listen on {listen_on or host} ({error.strerror or error})")
        yield LineAddress(host, 0, token)
        return
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


class _LineServer(socketserver.ThreadingTCPServer):
    """Accepts everybody, hears whoever says the token first."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128  # of 5, its default, strangers who come at once leave no place for a rank

    def __init__(self, listen_on: str, token: str, say: Callable[[str], None]) -> None:
        self.password = f"{token}\n".encode()
        self.say = say
        self._lock = threading.Lock()
        self._is_known: dict[Any, bool] = {}
        """Open connections, the oldest first, and whether they said the token."""
        if ":" in listen_on:
            self.address_family = socket.AF_INET6
        super().__init__((listen_on.strip("[]"), 0), _LineHandler)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Every connection is let in; of too many the oldest has to go, strangers first, so that no number of idle
        ones keeps a rank out."""
        with self._lock:
            if len(self._is_known) >= MAX_CONNECTIONS:
                oldest = min(self._is_known, key=self._is_known.__getitem__)  # the first of the least: False < True
                del self._is_known[oldest]
                with contextlib.suppress(OSError):  # it has just gone by itself
                    oldest.shutdown(socket.SHUT_RDWR)  # ends the wait of its thread, which closes it
            self._is_known[request] = False
        return True

    def welcome(self, connection: socket.socket) -> None:
        with self._lock:
            if connection in self._is_known:
                self._is_known[connection] = True

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._is_known.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever breaks off or takes too long is not worth a word."""


class _LineHandler(socketserver.StreamRequestHandler):
    server: _LineServer

    def handle(self) -> None:
        if not hmac.compare_digest(self._hear_password(), self.server.password):
            return
        self.server.welcome(self.connection)
        self.connection.settimeout(None)
        while line := self.rfile.readline(MAX_LINE_BYTES):
            self.server.say(printable(line.decode(errors="replace").rstrip("\r\n")))

    def _hear_password(self) -> bytes:
        """As many bytes as the password has, or fewer when the connection ends; TimeoutError when it idles."""
        until, heard = time.monotonic() + _PATIENCE_SECONDS, b""
        while missing := len(self.server.password) - len(heard):
            self.connection.settimeout(max(until - time.monotonic(), 0.001))
            piece = self.connection.recv(missing)
            if not piece:
                break
            heard += piece
        return heard
