"""Starts the training ranks with Horovod on Spark, and gives the training loop their collectives."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cloudpickle
import torch
from pyspark.sql import SparkSession
from torch import Tensor

import recsys_spark
from recsys_spark.bridges import rank_entry
from recsys_spark.bridges.live_lines import receive_lines
from recsys_spark.errors import Problem, RecsysError, problem

_FAILURE = "failure"
LINE_ADDRESS = "line_address"
_POLL_SECONDS = 0.0002
"""Pause between two questions whether a collective is over: short beside a step, long for a core."""
_TAIL_LINES = 30
"""Last lines of the ranks' output that an error quotes."""


class HorovodCommunicator:
    """`Communicator` over Horovod; `hvd.init()` has been called."""

    def __init__(self) -> None:
        import horovod.torch as hvd

        self._hvd = hvd
        self.rank: int = hvd.rank()
        self.size: int = hvd.size()

    def sum(self, tensor: Tensor) -> Tensor:
        return self._wait(self._hvd.allreduce_async(tensor, op=self._hvd.Sum))

    def gather(self, tensor: Tensor) -> Tensor:
        return self._wait(self._hvd.allgather_async(tensor))

    def average_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        for parameter in parameters:
            if parameter.grad is None:  # a rank whose batch missed a parameter still takes part
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters]
        self._wait(self._hvd.grouped_allreduce_async_(gradients, op=self._hvd.Average))

    def _wait(self, handle: int) -> Any:
        """The result of a collective. Horovod's own waiting asks every 100 ns, on a core that Gloo needs for its work:
        sleeping in between, two ranks on two cores trained 355 samples/s instead of 305."""
        while not self._hvd.poll(handle):
            time.sleep(_POLL_SECONDS)
        return self._hvd.synchronize(handle)

    def broadcast(self, parameters: Sequence[Tensor]) -> None:
        for number, parameter in enumerate(parameters):
            self._hvd.broadcast_(parameter.data, root_rank=0, name=f"start.{number}")


class OutputTail:
    """A stream that keeps the last lines the ranks wrote, for the message when they fail."""

    def __init__(self) -> None:
        self._text = ""

    def write(self, text: str) -> None:
        self._text = "\n".join((self._text + text).splitlines()[-_TAIL_LINES:]) + "\n"

    def flush(self) -> None:
        pass

    def __str__(self) -> str:
        return self._text


def run_ranks(
    spark: SparkSession,
    function: str,
    payload: dict[str, Any],
    *,
    num_ranks: int,
    start_timeout_seconds: int,
    say: Callable[[str], None],
) -> list[dict[str, Any]]:
    """Run `module:name` on `num_ranks` ranks at once; returns each rank's result in order of rank.

    The function takes and returns JSON text. Lines that a rank sends to the address in `payload[LINE_ADDRESS]`
    (live_lines.py) go to `say` at once. Fewer task slots than ranks is an error, not a wait without end.
    """
    import horovod.spark

    slots = spark.sparkContext.defaultParallelism
    if slots < num_ranks:
        raise problem(
            "configuration, train.ranks",
            wanted=f"at most {slots} ranks, the task slots of this session",
            found=str(num_ranks),
            do="Lower train.ranks, or give Spark more cores (--master 'local[N]', --executor-cores).",
        )
    output = OutputTail()
    host = spark.conf.get("spark.driver.host") or "localhost"
    cloudpickle.register_pickle_by_value(rank_entry)
    try:
        with receive_lines(host, say) as address:
            texts = horovod.spark.run(
                rank_entry.enter,
                args=(pack_package(), function, json.dumps({**payload, LINE_ADDRESS: asdict(address)})),
                num_proc=num_ranks,
                use_gloo=True,
                start_timeout=start_timeout_seconds,
                verbose=0,
                stdout=output,
                stderr=output,
            )
    except Exception as error:
        raise problem(
            "training ranks",
            wanted=f"{num_ranks} ranks that start within {start_timeout_seconds} s and finish",
            found=f"{type(error).__name__}: {error}",
            do="On a busy cluster raise train.start_timeout_seconds. The ranks' last lines:\n" + str(output),
        ) from error
    finally:
        cloudpickle.unregister_pickle_by_value(rank_entry)
    results = [json.loads(text) for text in texts]
    problems = [Problem(**fields) for result in results for fields in result.get(_FAILURE, [])]
    if problems:
        raise RecsysError(list(dict.fromkeys(problems)))
    return results


def as_failure(error: RecsysError) -> dict[str, Any]:
    """A user's error as a rank's result, so that it reaches the driver with its words."""
    return {_FAILURE: [vars(one) for one in error.problems]}


def pack_package() -> bytes:
    """The package as the bytes of a zip archive, whether it was imported from a folder or from an archive."""
    assert recsys_spark.__file__ is not None
    folder = Path(recsys_spark.__file__).parent
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, source in sorted(_sources(folder).items()):
            archive.writestr(zipfile.ZipInfo(name), source)
    return packed.getvalue()


def _sources(folder: Path) -> dict[str, bytes]:
    if folder.is_dir():
        root = folder.parent
        return {str(file.relative_to(root)): file.read_bytes() for file in folder.rglob("*.py")}
    with zipfile.ZipFile(folder.parent) as archive:  # …/recsys_spark.zip/recsys_spark
        names = [name for name in archive.namelist() if name.startswith(f"{folder.name}/") and name.endswith(".py")]
        return {name: archive.read(name) for name in names}
