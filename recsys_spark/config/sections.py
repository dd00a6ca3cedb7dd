"""The sections of the configuration: immutable, every key known, no default of their own, each number in its range."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import Field, model_validator

from recsys_spark.config.misfit import misfit
from recsys_spark.config.sources import EventsConfig, ItemsConfig, RulesConfig, Section
from recsys_spark.config.values import (
    BackEndName,
    Count,
    Days,
    DecayDays,
    Instant,
    LearningRate,
    Line,
    ListSize,
    ModelName,
    Name,
    Place,
    Root,
    SeenRule,
    Settings,
    Share,
    SliceName,
    SomeDistinct,
    Text,
)


class RunConfig(Section):
    id: SliceName
    seed: Annotated[int, Field(ge=0, lt=2**32)]


class ItemTextConfig(Section):
    template: Text
    max_tokens: Annotated[int, Field(ge=4, le=512)]


class SplitConfig(Section):
    """The global time split. Windows are half-open: [start, start + days)."""

    test_start: Instant
    test_days: Days
    validation_days: Days
    target_event_types: SomeDistinct[Name]

    @property
    def test_end(self) -> datetime:
        return self.test_start + timedelta(days=self.test_days)

    @property
    def validation_start(self) -> datetime:
        return self.test_start - timedelta(days=self.validation_days)


class SequencesConfig(Section):
    max_events: Annotated[int, Field(ge=1, le=1024)]
    max_targets: Annotated[int, Field(ge=1, le=4096)]
    event_types: SomeDistinct[Name]
    train_windows: Annotated[int, Field(ge=1, le=1000)]
    window_days: Days
    num_files: Annotated[int, Field(ge=1, le=100_000)]


class ModelConfig(Section):
    embedding_dim: Annotated[int, Field(ge=8, le=4096, multiple_of=8)]
    user_layers: Annotated[int, Field(ge=1, le=48)]
    user_heads: Annotated[int, Field(ge=1, le=128)]
    dropout: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
    trainable_encoder_layers: Annotated[int, Field(ge=0, le=48)]
    id_min_targets: Count


class TrainConfig(Section):
    ranks: Annotated[int, Field(ge=1, le=1024)]
    start_timeout_seconds: Annotated[int, Field(ge=1, le=86_400)]
    epochs: Annotated[int, Field(ge=1, le=10_000)]
    patience: Annotated[int, Field(ge=1, le=10_000)]
    batch_rows: Annotated[int, Field(ge=1, le=65_536)]
    targets_per_row: Annotated[int, Field(ge=1, le=4096)]
    random_negatives: Annotated[int, Field(ge=0, le=1_000_000)]
    live_texts: Annotated[int, Field(ge=0, le=65_536)]
    learning_rate: LearningRate
    encoder_learning_rate: LearningRate
    weight_decay: Share
    warmup_share: Share
    validation_k: ListSize


class TrackingConfig(Section):
    uri: Place
    artifacts: Place | None
    experiment: Annotated[Line, Field(max_length=500)]
    model_name: ModelName


class EmbedConfig(Section):
    back_end: BackEndName
    batch_tokens: Annotated[int, Field(ge=512, le=1_048_576)]
    batch_users: Annotated[int, Field(ge=1, le=65_536)]


class ScoreConfig(Section):
    top_k: ListSize
    user_block: Annotated[int, Field(ge=1, le=1_000_000)]
    worker_mib: Annotated[int, Field(ge=1, le=1_048_576)]
    checked_share: Share


class SimilarConfig(Section):
    top_k: ListSize
    top_users: ListSize


class RankConfig(Section):
    list_size: ListSize
    history_decay_days: DecayDays
    history_top_k: ListSize
    blend_k: ListSize
    tower_weights: SomeDistinct[Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]]


class EvaluateConfig(Section):
    ks: SomeDistinct[ListSize]
    popular_days: Days
    personal_decay_days: DecayDays
    knn_history: ListSize
    knn_neighbours: ListSize
    bootstrap_replicates: Annotated[int, Field(ge=1, le=100_000)]


class ReportConfig(Section):
    num_users: Annotated[int, Field(ge=1, le=1000)]
    history_shown: Annotated[int, Field(ge=1, le=1000)]


class Config(Section):
    """The whole tree. Code below the runner gets its own section or plain values, never this."""

    run: RunConfig
    warehouse: Root
    landing: Root
    spark: Settings
    seen_rules: SomeDistinct[SeenRule]
    events: EventsConfig
    items: ItemsConfig
    encoder: Line
    item_text: ItemTextConfig
    split: SplitConfig
    sequences: SequencesConfig
    model: ModelConfig
    train: TrainConfig
    tracking: TrackingConfig
    embed: EmbedConfig
    rules: RulesConfig
    score: ScoreConfig
    similar: SimilarConfig
    rank: RankConfig
    evaluate: EvaluateConfig
    report: ReportConfig

    @model_validator(mode="after")
    def _sizes_agree(self) -> Config:
        longest = max(self.evaluate.ks)
        if self.rank.list_size < longest:
            raise misfit(
                where="rank.list_size",
                wanted=f"at least {longest}, the largest of evaluate.ks",
                found=str(self.rank.list_size),
                do="Make the lists longer, or measure shorter ones.",
            )
        if self.model.embedding_dim % self.model.user_heads:
            raise misfit(
                where="model.embedding_dim",
                wanted=f"a multiple of model.user_heads ({self.model.user_heads})",
                found=str(self.model.embedding_dim),
                do="Change one of the two.",
            )
        if self.sequences.num_files < self.train.ranks:
            raise misfit(
                where="sequences.num_files",
                wanted=f"at least train.ranks ({self.train.ranks}): a rank reads files of its own",
                found=str(self.sequences.num_files),
                do="Raise it to a multiple of train.ranks.",
            )
        return self

    @model_validator(mode="after")
    def _targets_can_happen(self) -> Config:
        only, targets = self.events.event_type, self.split.target_event_types
        if only is not None and only not in targets:
            raise misfit(
                where="split.target_event_types",
                wanted=f"'{only}' among them, the type of all events (events.event_type)",
                found=", ".join(targets),
                do=f"Set split.target_event_types: [{only}], or map a source column to event_type.",
            )
        return self

    @model_validator(mode="after")
    def _windows_fit_the_calendar(self) -> Config:
        split, sequences = self.split, self.sequences
        days_before = split.validation_days + sequences.train_windows * sequences.window_days
        try:
            _ = split.test_start.astimezone(UTC) - timedelta(days=days_before), split.test_end.astimezone(UTC)
        except OverflowError:
            raise misfit(
                where="split.test_start",
                wanted=f"{days_before:,} days before it and {split.test_days:,} behind it, in the years 1 to 9999",
                found=split.test_start.date().isoformat(),
                do="Change it, split.validation_days, sequences.train_windows or sequences.window_days.",
            ) from None
        return self

    @model_validator(mode="after")
    def _template_is_fed(self) -> Config:
        named = set(re.findall(r"\{([^{}]*)\}", self.item_text.template))
        if not named:
            raise misfit(
                where="item_text.template",
                wanted="at least one field, as {title}: without one all items have the same text",
                found=f"'{self.item_text.template}'",
                do="Name the fields that say what an item is.",
            )
        mapped = sorted(set(self.items.columns.values()))
        unfed = sorted(named - set(mapped))
        if unfed:
            raise misfit(
                where="item_text.template",
                wanted=f"fields that items.columns fills: {', '.join(mapped)}",
                found=", ".join(f"{{{name}}}" for name in unfed),
                do="Change the template, or map a source column to the field.",
            )
        return self

    def recorded(self) -> dict[str, Any]:
        """The whole tree as plain JSON types, for what is written down: secrets are masked (see `secrets`)."""
        return self.model_dump(mode="json")

    def section(self, path: str) -> Any:
        """The recorded value at a dotted path: `section("run.seed")`. A changed secret changes nothing in it."""
        value: Any = self.recorded()
        for key in path.split("."):
            value = value[key]
        return value
