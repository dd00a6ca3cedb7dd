"""embed_items and embed_users compute what changed, keep the rest, and leave what a full run would leave."""

from __future__ import annotations

import re
import shutil
from datetime import UTC, datetime

import numpy as np
import pytest
import torch
from pyspark.sql import functions as F

from jobs import embed_items, embed_users
from recsys_spark.bridges import probe
from recsys_spark.errors import RecsysError
from recsys_spark.kernels.back_ends import Trial
from recsys_spark.kernels.checkpoint import save_model
from recsys_spark.models import RunModel, name_maker
from recsys_spark.runner import run_stage
from recsys_spark.tables.catalog import ITEM_EMBEDDINGS, ITEM_TEXT, MODELS, SEQUENCES, USER_EMBEDDINGS
from recsys_spark.tables.store import Store
from tests.small_warehouse import config_of
from tests.unit.kernel_world import NUM_ITEMS, make_model, make_rows, make_texts

pytestmark = pytest.mark.spark

NUM_USERS = 20
FLOAT32 = "embed.back_end=float32"
AS_OF = datetime(2020, 6, 1, tzinfo=UTC)
KEYS = {ITEM_EMBEDDINGS.name: ("item_id",), USER_EMBEDDINGS.name: ("user_id", "split")}


class World:
    """A warehouse with what the two stages read, and the stages."""

    def __init__(self, spark, root):
        self.spark, self.store = spark, Store(spark, str(root))

    def embed(self, stage, *settings, force=False):
        return run_stage(stage, self.spark, config_of(self.store.root, FLOAT32, *settings), force=force).record

    def embed_both(self, **options):
        return [self.embed(stage, **options)["notes"][-1] for stage in (embed_items.STAGE, embed_users.STAGE)]

    def put(self, table, rows, **slice_values):
        self.store.replace(table, rows.localCheckpoint(), slice_values)

    def slice(self, table, version="101"):
        rows = self.store.read(table).where(F.col("model_version") == version).collect()
        return {tuple(row[name] for name in KEYS[table.name]): row.asDict() for row in rows}

    def slices(self):
        return self.slice(ITEM_EMBEDDINGS), self.slice(USER_EMBEDDINGS)

    def versions(self):
        return self.store.version(ITEM_EMBEDDINGS), self.store.version(USER_EMBEDDINGS)

    def edit(self, table, column, where, value):
        """Another value of a column in the rows that meet a condition."""
        rows = self.store.read(table)
        self.put(table, rows.withColumn(column, F.when(F.expr(where), F.expr(value)).otherwise(F.col(column))))


@pytest.fixture(scope="module")
def template(spark, tmp_path_factory):
    """30 items with 12 texts, 20 users as of the test cut-off and the same as of validation, all embedded."""
    folder = tmp_path_factory.mktemp("embed_jobs")
    world = World(spark, folder / "warehouse")
    texts, rows = make_texts(), make_rows(NUM_USERS)
    item_rows = [
        (f"i{item:02d}", item, f"text {text}", f"hash {text}", texts.token_ids_UT[text].tolist(),
         int(texts.lengths_U[text]), "tokens")
        for item, text in enumerate(texts.text_of_item_N.tolist())
    ]  # fmt: skip
    user_rows = [
        (row, f"u{row:02d}", AS_OF, split, rows.event_items_BL[row].tolist(), rows.event_types_BL[row].tolist(),
         rows.event_hours_BL[row].tolist(), int(rows.num_events_B[row]), [-1], 0)
        for row in range(NUM_USERS)
        for split in ("validation", "test", "train")
    ]  # fmt: skip
    world.put(ITEM_TEXT, spark.createDataFrame(item_rows, ITEM_TEXT.schema))
    world.put(SEQUENCES, spark.createDataFrame(user_rows, SEQUENCES.schema))
    add_model(world, folder / "model 1", "101", seed=0)
    world.first = world.embed_both()
    return world


def add_model(world, folder, version, seed):
    model = make_model(seed).eval()
    torch.nn.init.normal_(model.id_embedding.weight.data[1:])
    torch.nn.init.normal_(model.user_tower.out.weight)
    save_model(model, folder, facts={})
    row = ("main", "two_tower", version, str(folder), f"tracked {version}", 10.0, -3.0, 0.2)
    world.put(MODELS, world.spark.createDataFrame([row], MODELS.schema), run_id="main")


@pytest.fixture
def world(spark, template, tmp_path):
    shutil.copytree(template.store.root, tmp_path / "warehouse")
    return World(spark, tmp_path / "warehouse")


def assert_as_after_a_full_run(world, tmp_path):
    """Every column of every row, to the last bit."""
    shutil.copytree(world.store.root, tmp_path / "full")
    full = World(world.spark, tmp_path / "full")
    full.embed_both(force=True)
    assert world.slices() == full.slices()


def users_with(world, items):
    """Rows of users who have one of the items among their events."""
    rows = world.store.read(SEQUENCES).where("split <> 'train'").collect()
    had = [(row["user_id"], row["split"]) for row in rows if items & set(row["event_items"][: row["num_events"]])]
    assert 0 < len(had) < 2 * NUM_USERS, "or the test says nothing"
    return set(had)


def changed_keys(before, after):
    return {key for key in before | after if before.get(key) != after.get(key)}


def test_the_first_run_embeds_everything(template):
    assert template.first == [
        f"{NUM_ITEMS} embedded, 0 kept, 0 removed",
        f"{2 * NUM_USERS} embedded, 0 kept, 0 removed",
    ]
    assert template.versions() == (0, 0)


def test_a_run_with_nothing_new_embeds_nothing_and_commits_nothing(world):
    items = world.embed(embed_items.STAGE, "embed.batch_tokens=1024")
    users = world.embed(embed_users.STAGE, "embed.batch_users=64")
    assert items["notes"][-1] == f"0 embedded, {NUM_ITEMS} kept, 0 removed"
    assert users["notes"][-1] == f"0 embedded, {2 * NUM_USERS} kept, 0 removed"
    assert (world.versions(), items["outputs"]) == ((0, 0), {"ITEM_EMBEDDINGS": 0})


def test_texts_that_changed_came_and_went_are_the_only_ones_embedded_and_so_are_their_users(world, tmp_path):
    before = world.slices()
    stale = users_with(world, {3, 5})
    world.edit(ITEM_TEXT, "token_ids", "item_idx = 3", "array(9, 8, 7, 0, 0)")
    world.edit(ITEM_TEXT, "num_tokens", "item_idx = 3", "3")
    world.edit(ITEM_TEXT, "text_hash", "item_idx = 3", "'hash new'")
    rows = world.store.read(ITEM_TEXT)
    new = rows.where("item_idx = 7").withColumn("item_id", F.lit("new")).withColumn("item_idx", F.lit(NUM_ITEMS))
    world.put(ITEM_TEXT, rows.where("item_idx <> 5").unionByName(new))
    assert world.embed_both() == [
        f"2 embedded, {NUM_ITEMS - 2} kept, 1 removed",
        f"{len(stale)} embedded, {2 * NUM_USERS - len(stale)} kept, 0 removed",
    ]
    assert world.versions() == (1, 1), "one commit each"
    after = world.slices()
    assert changed_keys(before[0], after[0]) == {("i03",), ("i05",), ("new",)}
    assert changed_keys(before[1], after[1]) == stale
    assert_as_after_a_full_run(world, tmp_path)


def test_the_last_item_of_the_catalogue_may_leave_and_its_users_stay(world, tmp_path):
    stale = users_with(world, {NUM_ITEMS - 1, NUM_ITEMS - 2})
    world.put(ITEM_TEXT, world.store.read(ITEM_TEXT).where(f"item_idx < {NUM_ITEMS - 2}"))
    assert world.embed_both()[1].startswith(f"{len(stale)} embedded")
    assert_as_after_a_full_run(world, tmp_path)


def test_a_new_event_embeds_its_user_alone_and_a_user_who_left_is_removed(world, tmp_path):
    before = world.slice(USER_EMBEDDINGS)
    world.edit(SEQUENCES, "event_hours", "user_id = 'u04' AND split = 'test'", "transform(event_hours, h -> h + 1)")
    world.put(SEQUENCES, world.store.read(SEQUENCES).where("user_id <> 'u05'"))
    assert world.embed_both()[1] == f"1 embedded, {2 * NUM_USERS - 3} kept, 2 removed"
    gone = {("u05", "test"), ("u05", "validation")}
    assert changed_keys(before, world.slice(USER_EMBEDDINGS)) == {("u04", "test"), *gone}
    assert_as_after_a_full_run(world, tmp_path)


def test_another_model_version_embeds_everything_and_leaves_the_other_slice(world, tmp_path):
    before = world.slice(ITEM_EMBEDDINGS)
    add_model(world, tmp_path / "model 2", "102", seed=5)
    assert world.embed_both()[0] == f"{NUM_ITEMS} embedded, 0 kept, 0 removed"
    assert world.slice(ITEM_EMBEDDINGS) == before
    assert changed_keys(before, world.slice(ITEM_EMBEDDINGS, "102")) == set(before)


def test_another_back_end_embeds_everything_and_int8_tells_its_loss(world):
    notes = world.embed(embed_items.STAGE, "embed.back_end=int8")["notes"]
    assert notes[0].startswith("texts are encoded by int8, as configured: ")
    pattern = r"float32 >= ([\d.]+), ([\d.]+) on average \(cosines of 12 texts\)$"
    least, mean = map(float, re.search(pattern, notes[0]).groups())
    assert 0.9 < least <= mean <= 1
    assert notes[1] == f"{NUM_ITEMS} embedded, 0 kept, 0 removed"
    items = world.slice(ITEM_EMBEDDINGS)
    assert {row["back_end"] for row in items.values()} == {"int8"}
    assert world.embed(embed_items.STAGE, "embed.back_end=auto")["notes"][1].startswith(f"{NUM_ITEMS} embedded")


def test_a_named_back_end_that_is_not_steady_is_told_of(world, monkeypatch):
    unsteady = Trial("int8", 300.0, 0.99, 0.995, is_steady=False, num_texts=12)
    monkeypatch.setattr(probe, "_try_on_texts", lambda *_: [Trial("float32", 100.0, 1.0, 1.0, True, 12), unsteady])
    (note, _) = world.embed(embed_items.STAGE, "embed.back_end=int8")["notes"]
    assert note.endswith("0.99500 on average, other bits in other batches (cosines of 12 texts)")


def test_a_worker_measures_not_the_driver(world, monkeypatch):
    for name in ("available", "try_out", "open_model"):
        monkeypatch.delattr(probe, name)
    notes = world.embed(embed_items.STAGE, "embed.back_end=int8")["notes"]
    assert notes[0].startswith("texts are encoded by int8, as configured: ")


def test_auto_stays_with_the_back_end_of_what_stands_and_measures_where_nothing_does(world):
    assert world.embed(embed_items.STAGE, "embed.back_end=auto")["notes"] == [
        "texts are encoded by float32, as those that stand were", f"0 embedded, {NUM_ITEMS} kept, 0 removed",
    ]  # fmt: skip
    (note, _) = world.embed(embed_items.STAGE, "embed.back_end=auto", force=True)["notes"]
    assert "texts/s, cosine >= " in note and "float32_onednn" in note and "int8" not in note
    assert note.endswith(" (cosines of 12 texts)")


def test_a_back_end_that_is_not_here_names_those_that_are(world):
    with pytest.raises(RecsysError, match=r"embed.back_end: wanted auto, or what a worker can do: float32, .*"):
        world.embed(embed_items.STAGE, "embed.back_end=cuda_float16")
    with pytest.raises(RecsysError, match=r"embed.back_end: wanted 'auto', 'float32', .*'cuda_float16'"):
        config_of(world.store.root, "embed.back_end=int4")


def test_a_worker_too_small_to_make_the_item_matrix_is_an_error_before_anything_runs(world):
    with pytest.raises(RecsysError, match=r"score\.worker_mib: wanted at least 401, to make the matrix of \d+ items"):
        world.embed(embed_users.STAGE, "score.worker_mib=400", force=True)


def test_vectors_are_those_of_the_grid(template):
    vectors = np.array([row["embedding"] for row in template.slice(ITEM_EMBEDDINGS).values()], dtype=np.float32)
    assert np.array_equal(vectors * 2**12, np.rint(vectors * 2**12))


def test_a_model_of_the_same_number_from_another_training_is_another_model():
    models = [RunModel("1", "place", tracking_run, 1.0, 0.0) for tracking_run in ("a", "b", "a")]
    first, other, again = (name_maker(embed_users.embed_users, model) for model in models)
    assert first == again != other
    assert name_maker(Store, models[0]) != first, "nor is the same model run by other code"
