"""Snapshots -> a registered model: what the driver plans, and what each rank does with the plan."""

from __future__ import annotations

import json
import logging
import os
import tempfile
import uuid
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from pyspark.sql import DataFrame, Row, SparkSession

from recsys_spark import columns as c
from recsys_spark.bridges.feed import PetastormFeed, plan_shards, plan_steps
from recsys_spark.bridges.live_lines import LineAddress, open_line
from recsys_spark.bridges.rank_inputs import count_targets, read_item_texts, read_validation
from recsys_spark.bridges.ranks import LINE_ADDRESS, HorovodCommunicator, run_ranks
from recsys_spark.bridges.snapshot import Snapshot, SnapshotFile, assign_files
from recsys_spark.config import Config
from recsys_spark.config.secrets import hide
from recsys_spark.errors import problem
from recsys_spark.kernels.batches import SequenceBatch
from recsys_spark.kernels.checkpoint import model_checksum, save_model
from recsys_spark.kernels.communicator import Communicator
from recsys_spark.kernels.precision import fast_precision
from recsys_spark.kernels.progress import Progress
from recsys_spark.kernels.sampling import TargetSampler
from recsys_spark.kernels.text_encoder import TextEncoder, Tokenizer
from recsys_spark.kernels.train_loop import Tracker, Trainer, TrainResult, TrainSettings
from recsys_spark.kernels.two_tower import Shape, TwoTower
from recsys_spark.kernels.validation import Validation
from recsys_spark.tables.catalog import MODELS, RUNS
from recsys_spark.tables.store import Store
from recsys_spark.tracking import Run, TrackingPlace, point_alias, tracked_run, tracking_place

log = logging.getLogger("recsys_spark")

_CYCLE_MILLISECONDS = "5"
"""How often Horovod's thread looks for work where ranks compute on the CPU. Looking every millisecond, its default,
cost two ranks on two cores a fifth of their speed; a step has three collectives and takes a quarter of a second."""


@dataclass(frozen=True)
class TrainPlan:
    """Everything a rank needs, as plain values: it travels as JSON."""

    train_shards: list[list[SnapshotFile]]
    validation_shards: list[list[SnapshotFile]]
    item_text_files: list[SnapshotFile]
    num_rows: int
    rows_checksum: int
    encoder: str
    max_tokens: int
    max_events: int
    model: dict[str, Any]
    train: dict[str, Any]
    batch_tokens: int
    seed: int
    tracking: TrackingPlace
    tracking_run: str
    """Id of the MLflow run that the driver has opened; empty until it has."""
    warehouse: str
    run_name: str
    facts: dict[str, Any]

    @property
    def num_ranks(self) -> int:
        return len(self.train_shards)

    @property
    def notes(self) -> list[str]:
        """What a person should know of the plan: that there are fewer ranks than were asked for, and why."""
        wanted, num_files = self.train["ranks"], sum(map(len, self.train_shards))
        why = f"each needs a file of its own and a row for each step (training rows: {self.num_rows:,}, "
        told = f"{self.num_ranks} of {wanted} ranks: {why}files that hold them: {num_files:,})"
        return [told] if self.num_ranks < wanted else []

    def to_payload(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_payload(cls, payload: dict[str, Any]) -> TrainPlan:
        def files(raw: list[dict[str, Any]]) -> list[SnapshotFile]:
            return [SnapshotFile(**file) for file in raw]

        read = dict(payload)
        read["train_shards"] = [files(shard) for shard in payload["train_shards"]]
        read["validation_shards"] = [files(shard) for shard in payload["validation_shards"]]
        read["item_text_files"] = files(payload["item_text_files"])
        read["tracking"] = TrackingPlace(**payload["tracking"])
        return cls(**read)


@dataclass(frozen=True)
class TrainedModel:
    """What rank 0 reports."""

    rows_fed: int
    epochs: int
    model_name: str
    model_version: str
    model_uri: str
    tracking_run: str
    alpha: float
    offset_b: float
    validation_ndcg: float
    checksum: str


def train_model(spark: SparkSession, plan: TrainPlan) -> TrainedModel:
    """Train on the plan's ranks and register the model."""
    records = Store(spark, plan.warehouse).state(RUNS)
    warehouse_id = uuid.uuid4().hex if records is None else records.table_id  # removed by hand: nobody's id
    with tracked_run(
        plan.tracking, warehouse=plan.warehouse, warehouse_id=warehouse_id, run_id=plan.run_name, stage="train"
    ) as run:
        results = run_ranks(
            spark,
            f"{__name__}:{run_rank.__name__}",
            replace(plan, tracking_run=run.id).to_payload(),
            num_ranks=plan.num_ranks,
            start_timeout_seconds=plan.train["start_timeout_seconds"],
            say=lambda line: log.info("  %s", line),
        )
    return TrainedModel(**results[0])


def plan_training(
    config: Config, *, train: Snapshot, checksum: int, validation: Snapshot, item_text: Snapshot
) -> TrainPlan:
    """Deal the files out to `config.train.ranks` ranks, or to fewer where rows are few, and gather the settings.

    `checksum` is Spark's sum of row_id modulo CHECKSUM_MODULUS over the training rows; what the ranks are fed has to
    add up to it. A rank may be without validation rows. Raises when there is nothing to train on.
    """
    for snapshot, what in ((train, "a training row"), (validation, "a validation row"), (item_text, "an item")):
        if not snapshot.rows:
            raise problem(
                f"table {snapshot.table}, version {snapshot.version}",
                wanted=what,
                found="none",
                do="Look at what the stages before say of the events, the catalogue and split.",
            )
    train_shards = plan_shards(train.files, most_ranks=config.train.ranks, batch_rows=config.train.batch_rows)
    return TrainPlan(
        train_shards=[list(shard) for shard in train_shards],
        validation_shards=[list(shard) for shard in assign_files(validation.files, len(train_shards))],
        item_text_files=list(item_text.files),
        num_rows=train.rows,
        rows_checksum=checksum,
        encoder=config.encoder,
        max_tokens=config.item_text.max_tokens,
        max_events=config.sequences.max_events,
        model=config.model.model_dump(),
        train=config.train.model_dump(),
        batch_tokens=config.embed.batch_tokens,
        seed=config.run.seed,
        tracking=tracking_place(config.tracking),
        tracking_run="",
        warehouse=config.warehouse,
        run_name=config.run.id,
        facts={
            "table_versions": {snapshot.table: snapshot.version for snapshot in (train, item_text)},
            "config": config.recorded(),
        },
    )


def require_same_tokenizer(texts: DataFrame, encoder: str, max_tokens: int) -> None:
    """Raise when ITEM_TEXT was made with another tokenizer than the encoder has now: its token ids mean other words."""
    first, wanted = texts.select(c.TOKENIZER).first(), Tokenizer(encoder, max_tokens).fingerprint
    if first is not None and first[0] != wanted:
        raise problem(
            "table ITEM_TEXT",
            wanted=f"tokens of {encoder} as it is now (tokenizer {wanted})",
            found=f"tokens of tokenizer {first[0]}",
            do="Run jobs/build_item_text.py first.",
        )


def as_model_row(trained: TrainedModel, run_id: str) -> Row:
    """The model as a row of MODELS."""
    facts = {**asdict(trained), c.RUN_ID: run_id, c.MODEL_URI: hide(trained.model_uri)}
    return Row(**{name: facts[name] for name in MODELS.column_names})


def run_rank(payload: str) -> str:
    """What `run_ranks` calls on each rank."""
    import horovod.torch as hvd

    if not torch.cuda.is_available():
        os.environ.setdefault("HOROVOD_CYCLE_TIME", _CYCLE_MILLISECONDS)
    hvd.init()
    _quieten_libraries()
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // hvd.local_size()))
    device = torch.device("cuda", hvd.local_rank()) if torch.cuda.is_available() else torch.device("cpu")
    received = json.loads(payload)
    address = LineAddress(**received.pop(LINE_ADDRESS))
    say = open_line(address) if hvd.rank() == 0 else _say_nothing
    result = train_rank(TrainPlan.from_payload(received), HorovodCommunicator(), device, say)
    return json.dumps(asdict(result) if result else {})


def _quieten_libraries() -> None:
    """A rank's output is for its progress: no deprecations of libraries that are pinned, no bars, no migrations."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def train_rank(
    plan: TrainPlan, communicator: Communicator, device: torch.device, say: Callable[[str], None]
) -> TrainedModel | None:
    """One rank's work; with `OneRank` it is the whole training, in this process. Only rank 0 has a result."""
    torch.manual_seed(plan.seed)
    texts = read_item_texts(plan.item_text_files)
    shard = plan.train_shards[communicator.rank]
    counts = communicator.sum(torch.from_numpy(count_targets(shard, texts.num_items)))
    model = _make_model(plan, counts, texts.num_items).to(device)
    sampler = TargetSampler(
        counts.numpy(), texts.known_items, plan.train["targets_per_row"], plan.train["random_negatives"]
    )
    trainer = Trainer(model, texts, sampler, communicator, _settings(plan, fast_precision(device)))
    feed = PetastormFeed(
        shard, num_steps=plan_steps(plan.train_shards, plan.train["batch_rows"]), seed=plan.seed + communicator.rank
    )
    validation_rows = read_validation(plan.validation_shards[communicator.rank])
    if communicator.rank == 0:
        return _fit_and_register(plan, model, trainer, feed, validation_rows, say)
    _fit(plan, trainer, feed, validation_rows, _NoTracker(), _say_nothing, lambda _model, _validation: None)
    return None


def _make_model(plan: TrainPlan, target_counts: torch.Tensor, num_items: int) -> TwoTower:
    min_targets = plan.model["id_min_targets"]
    shape = Shape(
        embedding_dim=plan.model["embedding_dim"],
        max_events=plan.max_events,
        user_layers=plan.model["user_layers"],
        user_heads=plan.model["user_heads"],
        dropout=plan.model["dropout"],
        num_items=num_items,
        num_ids=int((target_counts >= min_targets).sum()),
    )
    model = TwoTower(TextEncoder.pretrained(plan.encoder), shape)
    model.number_ids(target_counts, min_targets)
    model.text_encoder.train_last_layers(plan.model["trainable_encoder_layers"])
    return model


def _settings(plan: TrainPlan, precision: torch.dtype) -> TrainSettings:
    own = {name: plan.train[name] for name in TrainSettings.__dataclass_fields__ if name in plan.train}
    return TrainSettings(**own, batch_tokens=plan.batch_tokens, seed=plan.seed, precision=precision)


def _fit_and_register(
    plan: TrainPlan,
    model: TwoTower,
    trainer: Trainer,
    feed: PetastormFeed,
    validation_rows: list[SequenceBatch],
    say: Callable[[str], None],
) -> TrainedModel:
    """Rank 0: the curves, the best checkpoint so far, and at the end the registered model version.

    They go into the run that the driver has opened, and ends: a rank may be killed.
    """
    with Run(plan.tracking, plan.tracking_run) as run, tempfile.TemporaryDirectory() as scratch:
        run.log_params({**plan.model, **plan.train, "encoder": plan.encoder, "seed": plan.seed})
        run.log_params({f"version.{table}": version for table, version in plan.facts["table_versions"].items()})
        run.log_text(json.dumps(plan.facts["config"], indent=2), "config.json")
        folder = Path(scratch) / "model"
        Tokenizer(plan.encoder, plan.max_tokens).save(folder / "tokenizer")

        def save_best(best: TwoTower, validation: Validation) -> None:
            save_model(best, folder, facts={**plan.facts, **validation.as_metrics(), "encoder": plan.encoder})

        fitted = _fit(plan, trainer, feed, validation_rows, run, say, save_best)
        checksum = model_checksum(folder)
        registered = run.register(folder, tags={c.CHECKSUM: checksum})
    point_alias(plan.tracking, registered, "newest")
    return TrainedModel(
        rows_fed=fitted.rows_fed,
        epochs=len(fitted.validations),
        model_name=registered.name,
        model_version=registered.version,
        model_uri=registered.uri,
        tracking_run=registered.run_id,
        alpha=float(model.alpha.detach()),
        offset_b=float(model.offset_b),
        validation_ndcg=fitted.best_metric,
        checksum=checksum,
    )


def _fit(
    plan: TrainPlan,
    trainer: Trainer,
    feed: PetastormFeed,
    validation_rows: list[SequenceBatch],
    tracker: Tracker,
    say: Callable[[str], None],
    on_best: Callable[[TwoTower, Validation], None],
) -> TrainResult:
    """Train, then prove that each row was fed once per epoch; a model is registered only after that."""
    progress = Progress(epochs=plan.train["epochs"], steps=feed.num_steps, say=say)
    fitted = trainer.fit(feed, validation_rows, tracker, progress, on_best)
    epochs = len(fitted.validations)
    if (fitted.rows_fed, fitted.rows_checksum) != (plan.num_rows * epochs, plan.rows_checksum * epochs):
        raise problem(
            "training feed",
            wanted=f"{plan.num_rows:,} rows with checksum {plan.rows_checksum} in each of {epochs} epochs",
            found=f"{fitted.rows_fed:,} rows with checksum {fitted.rows_checksum} in all",
            do="No model was registered. Run build_sequences and train again; if it stays, report it.",
        )
    return fitted


class _NoTracker:
    """Ranks but the first draw no curves."""

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        pass


def _say_nothing(_text: str) -> None:
    pass
