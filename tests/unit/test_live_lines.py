"""Progress reaches the driver; whoever else reaches its port is neither heard nor costs much."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import psutil
import pytest

from recsys_spark.bridges import live_lines
from recsys_spark.bridges.live_lines import MAX_CONNECTIONS, MAX_LINE_BYTES, LineAddress, open_line, receive_lines

HERE = "127.0.0.1"
MIB = 2**20


def wait_for(lines: list[str], count: int) -> list[str]:
    deadline = time.monotonic() + 10
    while len(lines) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    return lines


def num_handlers() -> int:
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


def has_ended(stranger: socket.socket) -> bool:
    stranger.settimeout(10)
    with contextlib.suppress(ConnectionError):
        return stranger.recv(1) == b""
    return True


def connect(address: LineAddress) -> socket.socket:
    return socket.create_connection((address.host, address.port), timeout=10)


@pytest.fixture
def patience(monkeypatch) -> float:
    """Seconds that a connection may take to say the token."""
    monkeypatch.setattr(live_lines, "_PATIENCE_SECONDS", 0.3)
    return 0.3


def test_lines_arrive_one_by_one_while_the_sender_goes_on():
    heard: list[str] = []
    with receive_lines(HERE, heard.append) as address:
        send = open_line(address)
        send("epoch 1/2 ██░░")
        assert wait_for(heard, 1) == ["epoch 1/2 ██░░"]
        send("epoch 2/2 ████")
        assert wait_for(heard, 2) == ["epoch 1/2 ██░░", "epoch 2/2 ████"]


@pytest.mark.parametrize("token", ["guess", "", "0" * 32, "\xff\xfe"])
def test_a_stranger_without_the_token_is_not_heard(patience, token):
    heard: list[str] = []
    with receive_lines(HERE, heard.append) as address:
        open_line(LineAddress(address.host, address.port, token))("let me in")
        open_line(address)("a friend")
        assert wait_for(heard, 1) == ["a friend"]
        time.sleep(2 * patience)
        assert heard == ["a friend"]


def test_a_sender_that_reaches_nobody_stays_silent_and_lives():
    with receive_lines(HERE, print) as address:
        pass
    open_line(address)("is anybody there?")


def test_it_listens_on_one_address_only():
    with receive_lines("some-name", print, listen_on="127.0.0.1") as address:
        listening = [c.laddr for c in psutil.Process().net_connections("inet") if c.laddr.port == address.port]
        assert listening == [("127.0.0.1", address.port)]
        assert address.host == "some-name"


def test_an_address_that_is_not_of_this_machine_is_told_and_training_goes_on():
    said: list[str] = []
    with receive_lines("192.0.2.1", said.append) as address:  # an address for documents
        open_line(LineAddress(HERE, address.port, address.token))("is anybody there?")
    assert said == ["no progress will be shown: cannot listen on 192.0.2.1 (Cannot assign requested address)"]


def test_a_stranger_is_read_no_further_than_the_token_is_long():
    with receive_lines(HERE, print) as address, connect(address) as stranger:
        before, sent = psutil.Process().memory_info().rss, 0
        with contextlib.suppress(OSError):  # hung up on
            while sent < 300 * MIB:
                sent += stranger.send(b"x" * MIB)
        assert sent < 20 * MIB  # what the system's own buffers take
        assert psutil.Process().memory_info().rss - before < 20 * MIB


@pytest.mark.parametrize("said", [b"", b"half of a tok"])
def test_a_stranger_who_idles_is_hung_up_on(patience, said):
    with receive_lines(HERE, print) as address, connect(address) as stranger:
        stranger.sendall(said)
        began = time.monotonic()
        assert has_ended(stranger)
        assert patience / 2 < time.monotonic() - began < 10 * patience


def test_a_stranger_who_says_a_letter_now_and_then_is_hung_up_on(patience):
    with receive_lines(HERE, print) as address, connect(address) as stranger:
        began = time.monotonic()
        with contextlib.suppress(OSError):
            for _ in range(30):
                stranger.sendall(b"x")
                time.sleep(patience / 3)
        assert time.monotonic() - began < 10 * patience


def test_many_idle_strangers_hold_few_threads_and_keep_no_rank_out(monkeypatch):
    monkeypatch.setattr(live_lines, "_PATIENCE_SECONDS", 600)  # so that none of them goes by itself
    heard: list[str] = []
    before = num_handlers()
    with receive_lines(HERE, heard.append) as address, contextlib.ExitStack() as open_ones:
        first_rank = open_line(address)
        first_rank("first")
        wait_for(heard, 1)
        strangers = [open_ones.enter_context(connect(address)) for _ in range(200)]
        assert all(has_ended(stranger) for stranger in strangers[: 200 - MAX_CONNECTIONS])
        until = time.monotonic() + 60  # those that were told to go are about to
        while num_handlers() - before > MAX_CONNECTIONS and time.monotonic() < until:
            time.sleep(0.01)
        assert num_handlers() - before <= MAX_CONNECTIONS
        open_line(address)("a rank that was started again")
        wait_for(heard, 2)
        first_rank("still heard")
        assert wait_for(heard, 3) == ["first", "a rank that was started again", "still heard"]


def test_a_long_line_is_said_in_pieces():
    heard: list[str] = []
    with receive_lines(HERE, heard.append) as address:
        open_line(address)("x" * (2 * MAX_LINE_BYTES + 10))
        assert [len(line) for line in wait_for(heard, 3)] == [MAX_LINE_BYTES, MAX_LINE_BYTES, 10]


def test_no_line_steers_the_terminal_and_bad_utf_8_is_quiet(capfd):
    heard: list[str] = []
    with receive_lines(HERE, heard.append) as address, connect(address) as rank:
        rank.sendall(address.token.encode() + b"\n\x1b]0;title\x07\x1b[2J\rred\n" + b"caf\xe9 \xe2\x80\xaeabc\n\ttab\n")
        assert wait_for(heard, 3) == [r"\x1b]0;title\x07\x1b[2J\rred", "caf� \\u202eabc", " tab"]
    assert capfd.readouterr() == ("", "")


def test_a_connection_that_is_reset_is_not_worth_a_word(capfd):
    with receive_lines(HERE, print) as address:
        stranger = connect(address)
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # closing resets it
        stranger.sendall(b"x")
        stranger.close()
        time.sleep(0.2)
    assert capfd.readouterr() == ("", "")
