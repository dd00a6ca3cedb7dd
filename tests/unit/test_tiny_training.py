"""Training on next to nothing - one row, one item, one text - makes finite numbers, or stops before it starts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_spark.bridges.snapshot import Snapshot, SnapshotFile
from recsys_spark.errors import RecsysError
from recsys_spark.kernels.batches import CHECKSUM_MODULUS
from recsys_spark.training import plan_training
from tests.small_warehouse import config_of
from tests.training_world import SMALL, train_alone, write_encoder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """One registry and one encoder for all: making them takes longer than a training."""
    folder = tmp_path_factory.mktemp("warehouse")
    write_encoder(folder / "encoder")
    return folder


def write(path, columns) -> Snapshot:
    pq.write_table(pa.table(columns), path)
    num_rows = len(next(iter(columns.values())))
    files = (SnapshotFile(path.as_uri(), num_rows),) if num_rows else ()
    return Snapshot(path.stem.upper(), 0, files)


def write_rows(path, had, chose, width):
    """Rows of SEQUENCES: what each user had, and what came."""

    def padded(lists, size, filler):
        return pa.array([[*values, *[filler] * size][:size] for values in lists], pa.list_(pa.int32()))

    columns = {
        "row_id": np.arange(len(had), dtype=np.int64) - 1,
        "event_items": padded(had, width, -1),
        "event_types": padded([[1] * len(history) for history in had], width, 0),
        "event_hours": padded([[24] * len(history) for history in had], width, 0),
        "num_events": pa.array([len(history) for history in had], pa.int32()),
        "target_items": padded(chose, 4, -1),
        "num_targets": pa.array([len(chosen) for chosen in chose], pa.int32()),
    }
    return write(path, columns)


def write_texts(path, texts, hashes=None):
    """Rows of ITEM_TEXT from each item's tokens between the encoder's marks; equal tokens are one text."""
    tokens = [[101, *text, 102] for text in texts]
    columns = {
        "item_idx": pa.array(range(len(texts)), pa.int32()),
        "text_hash": pa.array(hashes or [str(text) for text in texts], pa.string()),
        "token_ids": pa.array([[*ids, *[0] * 6][:6] for ids in tokens], pa.list_(pa.int32())),
        "num_tokens": pa.array([len(ids) for ids in tokens], pa.int32()),
    }
    return write(path, columns)


APPLE, BREAD, CHEESE = (6207,), (7852,), (8808,)
RARE = "model.id_min_targets=1000000"


def plan(place, folder, *settings, had=((0, 1),), chose=((2,),), texts=(APPLE, BREAD, CHEESE), hashes=None, width=8):
    """Users who had and chose these items, for training and for validation, and the items' texts."""
    train = write_rows(folder / "train.parquet", had, chose, width)
    return plan_training(
        config_of(str(place), *SMALL, f"encoder={place}/encoder", "train.ranks=1", *settings),
        train=train,
        checksum=sum(row_id % CHECKSUM_MODULUS for row_id in range(-1, train.rows - 1)),
        validation=write_rows(folder / "validation.parquet", had, chose, width),
        item_text=write_texts(folder / "item_text.parquet", texts, hashes),
    )


TINY = {
    "one row": ([], {}),
    "one item": ([], {"had": [(0,)], "chose": [(0,)], "texts": [APPLE]}),
    "one event a row": (["sequences.max_events=1"], {"had": [(1,)], "width": 1}),
    "a catalogue smaller than the draw of negatives": (["train.random_negatives=1024"], {}),
    "no negatives": (["train.random_negatives=0"], {}),
    "more targets drawn than a row has": (["train.targets_per_row=64"], {}),
    "a batch larger than the data": (["train.batch_rows=60000"], {"had": [(0,)] * 5, "chose": [(1, 2)] * 5}),
    "one text that all items share": ([], {"texts": [(*APPLE, *BREAD)] * 3}),
    "no item with a text": ([], {"texts": [()] * 3}),
    "texts that are told apart by what their tokens lack": ([], {"texts": [APPLE] * 3, "hashes": ["a", "b", "c"]}),
    "no item chosen often enough for a vector of its own": ([RARE], {}),
    "neither texts nor vectors of their own to tell items apart": ([RARE], {"texts": [()] * 3}),
    "nothing trained of the encoder": (["train.live_texts=0", "model.trainable_encoder_layers=0"], {}),
}


@pytest.mark.parametrize(("settings", "world"), TINY.values(), ids=TINY)
def test_next_to_nothing_makes_a_model_of_finite_numbers(place, tmp_path, settings, world):
    made = plan(place, tmp_path, *settings, **world)
    trained, weights = train_alone(made)
    assert [name for name, values in weights.items() if not values.isfinite().all()] == []
    assert np.isfinite([trained.alpha, trained.offset_b]).all()
    assert trained.rows_fed == trained.epochs * made.num_rows > 0
    most = 1.0 if len(world.get("texts", "three")) == 1 else trained.validation_ndcg
    assert trained.validation_ndcg == most > 0, "a catalogue of three items is listed whole"


@pytest.mark.parametrize(
    ("world", "what"),
    [
        ({"had": [], "chose": []}, "TRAIN, version 0: wanted a training row; found none"),
        ({"texts": []}, "ITEM_TEXT, version 0: wanted an item; found none"),
    ],
)
def test_nothing_at_all_stops_before_a_rank_starts(place, tmp_path, world, what):
    with pytest.raises(RecsysError, match=what):
        plan(place, tmp_path, **world)


def test_items_that_have_no_text_yet_name_the_job_that_makes_them(place, tmp_path):
    made = plan(place, tmp_path, chose=[(7,)])
    with pytest.raises(RecsysError, match=r"wanted item numbers below 3, .* found 7\. .* run build_item_text"):
        train_alone(made)
