from __future__ import annotations

import time

from recsys_spark.bridges.live_lines import LineAddress, open_line, receive_lines


def wait_for(lines: list[str], count: int) -> list[str]:
    deadline = time.monotonic() + 10
    while len(lines) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    return lines


def test_lines_arrive_one_by_one_while_the_sender_goes_on():
    heard: list[str] = []
    with receive_lines("localhost", heard.append) as address:
        send = open_line(address)
        send("epoch 1/2 ██░░")
        assert wait_for(heard, 1) == ["epoch 1/2 ██░░"]
        send("epoch 2/2 ████")
        assert wait_for(heard, 2) == ["epoch 1/2 ██░░", "epoch 2/2 ████"]


def test_a_stranger_without_the_token_is_not_heard():
    heard: list[str] = []
    with receive_lines("localhost", heard.append) as address:
        open_line(LineAddress(address.host, address.port, "guess"))("let me in")
        open_line(address)("a friend")
        assert wait_for(heard, 1) == ["a friend"]


def test_a_sender_that_reaches_nobody_stays_silent_and_lives():
    with receive_lines("localhost", print) as address:
        pass
    open_line(address)("is anybody there?")
