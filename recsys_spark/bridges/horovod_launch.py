"""Horovod's launcher for Spark, with what it lacks: an address to listen on, the end of each rank, and silence.

Its services listen on every address of a machine. When ranks fail, it tells the exit code of one of them: the one its
polling, once a second, saw first, which may be a rank that stopped because another had died. And its threads print
their tracebacks, the JVM's included. There are no settings for any of it, so five names in its modules mean functions
of ours while it runs; its version is pinned, and tests/distributed looks at the effect of each.

Spark's Python workers import this module: nothing heavy at the top.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import ModuleType, TracebackType
from typing import Any, Final

_TAIL_CHARACTERS: Final = 2**16
"""How much of the end of a rank's output is kept."""


class OutputTail:
    """A stream that keeps the end of what is written to it."""

    def __init__(self) -> None:
        self._text = ""

    def write(self, text: str) -> None:
        self._text = (self._text + text)[-_TAIL_CHARACTERS:]

    def flush(self) -> None:
        pass

    def __str__(self) -> str:
        return self._text


@dataclass
class RankEnd:
    """How a rank ended. A rank that was started and has no exit code was lost with the Spark task around it."""

    was_started: bool = False
    exit_code: int | None = None
    stdout: OutputTail = field(default_factory=OutputTail)
    stderr: OutputTail = field(default_factory=OutputTail)


class LaunchError(Exception):
    """Ranks did not start, or did not finish: how each ended, and what Horovod's threads died of meanwhile."""

    def __init__(self, error: Exception, ends: list[RankEnd], of_threads: list[Exception]) -> None:
        outputs = [
            f"--- rank {rank}, exit code {end.exit_code}\n{end.stdout}{end.stderr}" for rank, end in enumerate(ends)
        ]
        super().__init__("\n".join([f"{type(error).__name__}: {error}", *map(str, of_threads), *outputs]))
        self.error = error
        self.ends = ends
        self.of_threads = of_threads


def launch(
    function: Callable[..., str],
    arguments: tuple[Any, ...],
    *,
    num_ranks: int,
    start_timeout_seconds: int,
    listen_on: str,
) -> list[str]:
    """Call the function on `num_ranks` ranks at once; returns each rank's result in order of rank.

    Horovod's services listen on the address `listen_on`, "" for all; with a loopback address the ranks talk to each
    other over that interface too. Raises LaunchError.
    """
    import horovod.spark.gloo_run
    import horovod.spark.runner
    from horovod.runner.util.network import get_local_intfs

    ends = [RankEnd() for _ in range(num_ranks)]
    of_threads: list[Exception] = []
    run, mapper = horovod.spark.gloo_run._exec_command_fn, horovod.spark.runner._make_mapper
    try:
        with ExitStack() as while_it_runs:
            enter = while_it_runs.enter_context
            enter(listening_on(listen_on))
            enter(_horovods_threads_quiet(of_threads))
            enter(_signals_kept())
            enter(_replaced(horovod.spark.gloo_run, "_exec_command_fn", _noting_ends(run, ends)))
            enter(_replaced(horovod.spark.runner, "_make_mapper", _listening_in_tasks(mapper, listen_on)))
            results: list[str] = horovod.spark.run(
                function,
                args=arguments,
                num_proc=num_ranks,
                use_gloo=True,
                start_timeout=start_timeout_seconds,
                verbose=0,
                nics=get_local_intfs() if listen_on else None,
            )
    except Exception as error:
        raise LaunchError(error, ends, of_threads) from error
    return results


@contextmanager
def listening_on(address: str) -> Iterator[None]:
    """Horovod's services that are made meanwhile listen there, and say nothing about strangers' requests."""
    import horovod.runner.common.util.network
    import horovod.runner.http.http_server

    def find_port(make_server: Callable[[tuple[str, int]], Any]) -> tuple[Any, int]:
        server = make_server((address, 0))
        server.handle_error = lambda request, client_address: None
        return server, server.server_address[1]

    with (
        _replaced(horovod.runner.common.util.network, "find_port", find_port),  # of the driver and the tasks
        _replaced(horovod.runner.http.http_server, "find_port", find_port),  # of the rendezvous
    ):
        yield


def _listening_in_tasks(make_mapper: Callable[..., Any], address: str) -> Callable[..., Any]:
    """Horovod's function of that name: what it ships to the Spark tasks listens on the address there, too."""

    def make_our_mapper(*arguments: Any) -> Callable[[int, Iterable[Any]], Iterator[Any]]:
        mapper = make_mapper(*arguments)

        def run_task(index: int, rows: Iterable[Any]) -> Iterator[Any]:
            with listening_on(address), _horovods_threads_quiet([]):
                yield from mapper(index, rows)

        return run_task

    return make_our_mapper


def _noting_ends(exec_command_fn: Callable[..., Any], ends: list[RankEnd]) -> Callable[..., Any]:
    """Horovod's function of that name, each rank with an output of its own and its exit code noted."""

    def make_exec_command(
        driver: Any, key: Any, settings: Any, env: Any, _stdout: Any, _stderr: Any, with_time: bool
    ) -> Callable[..., tuple[int | None, float]]:
        def exec_command(command: str, slot: Any, events: Any) -> tuple[int | None, float]:
            end = ends[slot.rank]
            end.was_started = True
            run = exec_command_fn(driver, key, settings, env, end.stdout, end.stderr, with_time)
            end.exit_code, ended_at = run(command, slot, events)
            return end.exit_code, ended_at

        return exec_command

    return make_exec_command


@contextmanager
def _horovods_threads_quiet(died_of: list[Exception]) -> Iterator[None]:
    """What Horovod's threads raise is noted and not printed; other threads' exceptions go where they went before."""
    hook_before = threading.excepthook

    def hook(thread: Any) -> None:
        if _passed_through("horovod.", thread.exc_traceback):
            died_of.append(thread.exc_value)
        else:
            hook_before(thread)

    with _replaced(threading, "excepthook", hook):
        yield


def _passed_through(package: str, frames: TracebackType | None) -> bool:
    while frames is not None:
        if str(frames.tb_frame.f_globals.get("__name__")).startswith(package):
            return True
        frames = frames.tb_next
    return False


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Horovod leaves handlers of Ctrl-C and SIGTERM behind that stop nothing once its ranks are gone."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextmanager
def _replaced(module: ModuleType, name: str, value: Any) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
