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
from recsys_spark.bridges.horovod_launch import LaunchError, launch
from recsys_spark.bridges.live_lines import receive_lines
from recsys_spark.bridges.rank_ends import explain
from recsys_spark.errors import problem

LINE_ADDRESS = "line_address"
_POLL_SECONDS = 0.0002
"""Pause between two questions whether a collective is over: short beside a step, long for a core."""
_LOOPBACK = "127.0.0.1"


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
    (live_lines.py) go to `say` at once. Fewer task slots than ranks is an error, not a wait without end. When ranks do
    not start or finish, the error says which ended of what; a RecsysError of a rank comes as it is.
    """
    slots = spark.sparkContext.defaultParallelism
    if slots < num_ranks:
        raise problem(
            "configuration, train.ranks",
            wanted=f"at most {slots} ranks, the task slots of this session",
            found=str(num_ranks),
            do="Lower train.ranks, or give Spark more cores (--master 'local[N]', --executor-cores).",
        )
    host, listen_on, horovod_on = _addresses(spark)
    cloudpickle.register_pickle_by_value(rank_entry)
    try:
        with receive_lines(host, say, listen_on=listen_on) as address:
            texts = launch(
                rank_entry.enter,
                (pack_package(), function, json.dumps({**payload, LINE_ADDRESS: asdict(address)})),
                num_ranks=num_ranks,
                start_timeout_seconds=start_timeout_seconds,
                listen_on=horovod_on,
            )
    except LaunchError as error:
        raise explain(error, start_timeout_seconds=start_timeout_seconds) from error
    finally:
        cloudpickle.unregister_pickle_by_value(rank_entry)
    return [json.loads(text) for text in texts]


def _addresses(spark: SparkSession) -> tuple[str, str, str]:
    """This machine's name for the ranks, what our receiver listens on, and what Horovod does ("" is every address).

    The ranks of a local master are here. Elsewhere, the driver listens where Spark's own does; which interface all
    machines share, Horovod finds out by trying.
    """
    if str(spark.sparkContext.master).startswith("local"):
        return _LOOPBACK, _LOOPBACK, _LOOPBACK
    host = spark.conf.get("spark.driver.host") or "localhost"
    return host, spark.conf.get("spark.driver.bindAddress", None) or host, ""


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
