"""embed_items and embed_users compute what changed, keep the rest, and leave what a full run would leave."""

from __future__ import annotations

import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlparse

import numpy as np
import pytest
import torch
from pyspark.sql import functions as F

from jobs import embed_items, embed_users
from recsys_spark.bridges import probe
from recsys_spark.errors import RecsysError
from recsys_spark.kernels.checkpoint import model_checksum, save_model
from recsys_spark.kernels.grid import snap_to_grid
from recsys_spark.kernels.precision import has_8_bit_products
from recsys_spark.kernels.text_encoder import encode_all
from recsys_spark.kernels.trials import Trial
from recsys_spark.models import RunModel, name_maker
from recsys_spark.runner import run_stage
from recsys_spark.tables.catalog import ITEM_EMBEDDINGS, ITEM_TEXT, MODELS, SEQUENCES, USER_EMBEDDINGS
from recsys_spark.tables.store import Store
from recsys_spark.tracking import open_run, read_version_tag, tag_version, tracking_place
from tests.small_warehouse import config_of
from tests.unit.kernel_world import NUM_ITEMS, make_model, make_rows, make_texts

pytestmark = pytest.mark.spark

NUM_USERS = 20
NAMED = "int8" if has_8_bit_products() else "float32_onednn"
"""A back end that is not float32: where the processor is slow at int8, there is no such one."""
FLOAT32, AUTO = "embed.back_end=float32", "embed.back_end=auto"
AS_OF = datetime(2020, 6, 1, tzinfo=UTC)
KEYS = {ITEM_EMBEDDINGS.name: ("item_id",), USER_EMBEDDINGS.name: ("user_id", "split")}


class World:
    """A warehouse with what the two stages read, and the stages."""

    def __init__(self, spark, root):
        self.spark, self.store = spark, Store(spark, str(root))
        self.tracking = tracking_place(config_of(str(root)).tracking)

    def embed(self, stage, *settings, force=False):
        return run_stage(stage, self.spark, config_of(self.store.root, FLOAT32, *settings), force=force).record

    def embed_both(self, **options):
        return [self.embed(stage, **options)["notes"][-1] for stage in (embed_items.STAGE, embed_users.STAGE)]

    def put(self, table, rows, **slice_values):
        self.store.replace(table, rows.localCheckpoint(), slice_values)

    def slice(self, table, version="1"):
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
    add_model(world, folder / "model 1", seed=0)
    world.first = world.embed_both()
    return world


def trained_model(seed):
    model = make_model(seed).eval()
    torch.nn.init.normal_(model.id_embedding.weight.data[1:])
    torch.nn.init.normal_(model.user_tower.out.weight)
    return model


def add_model(world, folder, seed):
    """Register the model of this seed as the warehouse's next version; returns the folder of its files."""
    save_model(trained_model(seed), folder, facts={})
    run, checksum = open_run(world.tracking, "main"), model_checksum(folder)
    model = run.register(folder, tags={"checksum": checksum})
    run.finish()
    row = ("main", model.name, model.version, model.uri, model.run_id, 10.0, -3.0, 0.2, checksum)
    world.put(MODELS, world.spark.createDataFrame([row], MODELS.schema), run_id="main")
    return Path(unquote(urlparse(model.uri).path))


def item_vectors_of(seed):
    """What the model of this seed gives, without Spark."""
    model, texts = trained_model(seed), make_texts()
    encoded = encode_all(model.text_encoder, texts.token_ids_UT, texts.lengths_U, batch_tokens=512)
    with torch.inference_mode():
        vectors = model.item_vectors(torch.from_numpy(encoded[texts.text_of_item_N]), torch.arange(NUM_ITEMS))
    return {(f"i{item:02d}",): vector.tolist() for item, vector in enumerate(snap_to_grid(vectors.numpy()))}


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
    add_model(world, tmp_path / "model 2", seed=5)
    assert world.embed_both()[0] == f"{NUM_ITEMS} embedded, 0 kept, 0 removed"
    assert world.slice(ITEM_EMBEDDINGS) == before
    assert changed_keys(before, world.slice(ITEM_EMBEDDINGS, "2")) == set(before)


def test_another_back_end_embeds_everything_and_one_that_is_named_tells_its_loss(world):
    notes = world.embed(embed_items.STAGE, f"embed.back_end={NAMED}")["notes"]
    assert notes[0].startswith(f"texts are encoded by {NAMED}, as configured: ")
    pattern = r"float32 >= ([\d.]+), ([\d.]+) on average.* \(cosines of 12 texts\)$"
    least, mean = map(float, re.search(pattern, notes[0]).groups())
    assert 0.9 < least <= mean <= 1
    assert notes[1] == f"{NUM_ITEMS} embedded, 0 kept, 0 removed"
    items = world.slice(ITEM_EMBEDDINGS)
    assert {row["back_end"] for row in items.values()} == {NAMED}
    assert world.embed(embed_items.STAGE, "embed.back_end=auto")["notes"][1].startswith(f"{NUM_ITEMS} embedded")


def test_a_named_back_end_that_is_not_steady_is_told_of(world, monkeypatch):
    unsteady = Trial(NAMED, 300.0, 0.99, 0.995, is_steady=False, num_texts=12)
    monkeypatch.setattr(probe, "_try_on_texts", lambda *_: [Trial("float32", 100.0, 1.0, 1.0, True, 12), unsteady])
    (note, _) = world.embed(embed_items.STAGE, f"embed.back_end={NAMED}")["notes"]
    assert note.endswith("0.99500 on average, other bits in other batches (cosines of 12 texts)")


def test_a_worker_measures_not_the_driver(world, monkeypatch):
    for name in ("available", "try_out", "open_model"):
        monkeypatch.delattr(probe, name)
    notes = world.embed(embed_items.STAGE, f"embed.back_end={NAMED}")["notes"]
    assert notes[0].startswith(f"texts are encoded by {NAMED}, as configured: ")


def test_auto_is_settled_once_for_a_model_version_and_recorded_with_it(world, tmp_path):
    (note, _) = world.embed(embed_items.STAGE, AUTO)["notes"]
    assert "texts/s, cosine >= " in note and "float32_onednn" in note and "int8" not in note
    assert note.endswith(" (cosines of 12 texts)")
    (settled,) = {row["back_end"] for row in world.slice(ITEM_EMBEDDINGS).values()}
    assert read_version_tag(world.tracking, "two_tower", "1", "embed.back_end") == settled
    (note, kept) = world.embed(embed_items.STAGE, AUTO, "embed.batch_tokens=1024")["notes"]
    assert note == f"texts are encoded by {settled}, as settled for this model version"
    assert kept == f"0 embedded, {NUM_ITEMS} kept, 0 removed"
    add_model(world, tmp_path / "model 2", seed=0)
    assert "texts/s" in world.embed(embed_items.STAGE, AUTO)["notes"][0], "another version settles for itself"


def test_what_was_settled_holds_whatever_stands_and_whatever_would_be_faster_now(world):
    tag_version(world.tracking, "two_tower", "1", "embed.back_end", NAMED)
    assert {row["back_end"] for row in world.slice(ITEM_EMBEDDINGS).values()} == {"float32"}, "stands"
    for _ in range(2):
        (note, _) = world.embed(embed_items.STAGE, AUTO, force=True)["notes"]
        assert note == f"texts are encoded by {NAMED}, as settled for this model version"
        assert {row["back_end"] for row in world.slice(ITEM_EMBEDDINGS).values()} == {NAMED}


def test_a_named_back_end_wins_over_the_settled_one_which_stays(world):
    tag_version(world.tracking, "two_tower", "1", "embed.back_end", "float32")
    (note, _) = world.embed(embed_items.STAGE, f"embed.back_end={NAMED}")["notes"]
    assert note.startswith(f"texts are encoded by {NAMED}, as configured: ")
    assert read_version_tag(world.tracking, "two_tower", "1", "embed.back_end") == "float32"


def test_workers_that_lack_the_settled_back_end_are_an_error_with_the_way_out(world):
    tag_version(world.tracking, "two_tower", "1", "embed.back_end", "cuda_float16")
    with pytest.raises(RecsysError, match=r"wanted cuda_float16, .*; found workers that can do float32, .*name one of"):
        world.embed(embed_items.STAGE, AUTO)


@pytest.mark.parametrize("damage", ["overwritten", "cut off", "removed", "replaced by another model"])
def test_a_registered_model_whose_files_were_damaged_embeds_nothing(world, tmp_path, damage):
    folder = add_model(world, tmp_path / "model", seed=6)
    world.embed(embed_items.STAGE)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    if damage == "overwritten":
        weights.write_bytes(whole[:5000] + bytes(4000) + whole[9000:])
    elif damage == "cut off":
        weights.write_bytes(whole[: len(whole) // 2])
    elif damage == "removed":
        weights.unlink()
    else:
        save_model(trained_model(7), folder, facts={})
    file = "manifest.json" if damage == "replaced by another model" else "model.safetensors"
    before = world.versions()
    for stage in (embed_items.STAGE, embed_users.STAGE):
        with pytest.raises(RecsysError, match=rf"file {file}: wanted SHA-256 \w+; found .*\. Restore .*or train again"):
            world.embed(stage, force=True)
    assert world.versions() == before


def test_a_model_of_a_release_without_checksums_is_to_be_trained_again(world):
    older = world.store.read(MODELS).withColumn("checksum", F.lit(None).cast("string"))
    world.put(MODELS, older, run_id="main")
    with pytest.raises(RecsysError, match=r"table MODELS, two_tower version 1: .*; found none: .*Train again"):
        world.embed(embed_items.STAGE, force=True)


def test_two_warehouses_of_one_session_have_vectors_of_their_own_models(world, tmp_path):
    """Both have a model version 1 of the same name."""
    shutil.copytree(world.store.root, tmp_path / "other warehouse", ignore=shutil.ignore_patterns("mlflow.db"))
    other = World(world.spark, tmp_path / "other warehouse")
    add_model(other, tmp_path / "other model", seed=8)
    for _ in range(2):  # workers that have opened the one model are asked for the other
        for here, seed in ((world, 0), (other, 8)):
            here.embed_both(force=True)
            found = {key: row["embedding"] for key, row in here.slice(ITEM_EMBEDDINGS).items()}
            assert found == item_vectors_of(seed)
    shutil.copytree(other.store.root, tmp_path / "alone")
    users = other.slice(USER_EMBEDDINGS)
    assert users != world.slice(USER_EMBEDDINGS)
    world.embed_both()
    assert other.slice(USER_EMBEDDINGS) == users
    alone = World(world.spark, tmp_path / "alone")
    alone.embed_both(force=True)
    assert alone.slice(USER_EMBEDDINGS) == users


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
    models = [RunModel("tower", "1", "place", checksum, "run", 1.0, 0.0) for checksum in ("a", "b", "a")]
    first, other, again = (name_maker(embed_users.embed_users, model) for model in models)
    assert first == again != other
    assert name_maker(Store, models[0]) != first, "nor is the same model run by other code"
