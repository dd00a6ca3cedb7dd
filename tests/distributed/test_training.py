"""The train job on two real ranks: the same model again, and data that are too few for both."""

from __future__ import annotations

import pytest
import torch

from jobs import train
from recsys_spark.runner import run_stage
from recsys_spark.tables.catalog import MODELS
from recsys_spark.tables.store import Store
from tests.training_world import read_weights, write_warehouse

pytestmark = pytest.mark.distributed


def train_on(spark, config):
    """The job's notes, and all weights of the model that it registered."""
    outcome = run_stage(train.STAGE, spark, config)
    return outcome.record.notes, read_weights(Store(spark, config.warehouse).read(MODELS).first().model_uri)


def test_two_ranks_make_the_same_model_of_equal_rows_to_the_last_bit(spark, tmp_path):
    configs = [write_warehouse(spark, tmp_path / f"w{shuffle}", shuffle=shuffle) for shuffle in (0, 3)]
    (notes, first), (_, second) = [train_on(spark, config) for config in configs]
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert first.keys() == second.keys()
    assert notes[0] == "2 epochs, each of 60 rows fed once, by count and checksum", "and no word of fewer ranks"


def test_one_user_and_one_text_are_enough_for_two_ranks(spark, tmp_path):
    """Rank 1 has no validation row, and of the texts none to encode."""
    notes, weights = train_on(spark, write_warehouse(spark, tmp_path, num_users=1, num_texts=1))
    assert notes[0] == "2 epochs, each of 3 rows fed once, by count and checksum"
    assert all(values.isfinite().all() for values in weights.values())


def test_a_row_that_only_one_rank_can_have_is_trained_on_by_one_rank_and_that_is_told(spark, tmp_path):
    config = write_warehouse(spark, tmp_path, "sequences.train_windows=1", num_users=1)
    notes, weights = train_on(spark, config)
    reason = "each needs a file of its own and a row for each step (training rows: 1, files that hold them: 1)"
    assert notes[:2] == [f"1 of 2 ranks: {reason}", "2 epochs, each of 1 rows fed once, by count and checksum"]
    assert all(values.isfinite().all() for values in weights.values())
