"""What test ranks run; the ranks find it over PYTHONPATH, and the package in the archive they bring along."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable

import psutil
import torch

import recsys_spark


def try_collectives(payload: str) -> str:
    """Each collective once, on values that tell the ranks apart; rank 1 has no gradient of the second parameter."""
    import horovod.torch as hvd

    from recsys_spark.bridges.live_lines import LineAddress, open_line
    from recsys_spark.bridges.ranks import LINE_ADDRESS, HorovodCommunicator

    hvd.init()
    read = json.loads(payload)
    communicator = HorovodCommunicator()
    rank = communicator.rank
    first, second = torch.nn.Parameter(torch.full((2,), float(rank))), torch.nn.Parameter(torch.ones(1))
    first.grad = torch.tensor([1.0, 2.0]) * (rank + 1)
    second.grad = torch.tensor([8.0]) if rank == 0 else None
    communicator.average_gradients([first, second])
    communicator.broadcast([first])
    open_line(LineAddress(**read[LINE_ADDRESS]))(f"a word from rank {rank}")
    open_line(LineAddress(**{**read[LINE_ADDRESS], "token": "a stranger's"}))("not for this log")
    return json.dumps(
        {
            "rank": rank,
            "size": communicator.size,
            "said": read["word"],
            "sum": communicator.sum(torch.tensor([rank + 1, 10])).tolist(),
            "gathered": communicator.gather(torch.arange(rank + 1)).tolist(),
            "gradients": [first.grad.tolist(), second.grad.tolist()],
            "broadcast": first.data.tolist(),
            "package": recsys_spark.__file__,
        }
    )


def kill_the_second_rank(_payload: str) -> str:
    """Rank 1 dies as the system kills a process when memory runs out; rank 0 waits for it."""
    return _lose_the_second_rank(lambda: os.kill(os.getpid(), signal.SIGKILL))


def raise_on_the_second_rank(_payload: str) -> str:
    """Rank 1 stops with an error of its own."""

    def fail() -> None:
        raise RuntimeError("disk full on this rank")

    return _lose_the_second_rank(fail)


def exit_on_the_second_rank(_payload: str) -> str:
    """Rank 1 ends without an exception."""
    return _lose_the_second_rank(lambda: os._exit(3))


def raise_a_users_error_on_the_second_rank(_payload: str) -> str:
    """Rank 1 alone finds something that a user can mend."""
    from recsys_spark.errors import problem

    def fail() -> None:
        raise problem("file x", wanted="rows", found="none", do="Mend it.")

    return _lose_the_second_rank(fail)


def lose_the_task_of_the_second_rank(_payload: str) -> str:
    """Spark's Python worker around rank 1 is killed."""

    def kill_worker() -> None:
        workers = [process for process in psutil.Process().parents() if "pyspark.daemon" in process.cmdline()]
        workers[0].kill()
        time.sleep(60)

    return _lose_the_second_rank(kill_worker)


def finish(_payload: str) -> str:
    """Nothing goes wrong."""
    return _lose_the_second_rank(lambda: None)


def wait_to_be_looked_at(payload: str) -> str:
    """Rank 0 says so when the ranks have met, and both wait a little."""
    import horovod.torch as hvd

    from recsys_spark.bridges.live_lines import LineAddress, open_line
    from recsys_spark.bridges.ranks import LINE_ADDRESS

    hvd.init()
    hvd.allreduce(torch.ones(1))
    if hvd.rank() == 0:
        open_line(LineAddress(**json.loads(payload)[LINE_ADDRESS]))("look now")
    time.sleep(6)
    hvd.allreduce(torch.ones(1))
    return "{}"


def _lose_the_second_rank(end: Callable[[], None]) -> str:
    import horovod.torch as hvd

    hvd.init()
    print(f"rank {hvd.rank()} is at work \x1b[31m")
    if hvd.rank() == 1:
        end()
    hvd.allreduce(torch.ones(1))
    return "{}"
