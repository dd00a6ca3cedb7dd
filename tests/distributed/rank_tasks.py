"""What test ranks run; the ranks find it over PYTHONPATH, and the package in the archive they bring along."""

from __future__ import annotations

import json

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


def fail_on_the_second_rank(_payload: str) -> str:
    """Rank 1 stops with an error of its own."""
    import horovod.torch as hvd

    hvd.init()
    if hvd.rank() == 1:
        raise RuntimeError("disk full on this rank")
    return "{}"
