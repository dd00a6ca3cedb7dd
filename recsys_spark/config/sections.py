"""The sections of the configuration: immutable, every key known, no default of their own."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from recsys_spark.config.values import (
    BackEndName,
    Count,
    Instant,
    Misfit,
    Positive,
    Scalar,
    SeenRule,
    Share,
    SliceName,
    Text,
    TimestampPattern,
    Whole,
    Zone,
    misfit,
    require_mapping,
)
from recsys_spark.errors import Problem

EVENT_COLUMNS = ("user_id", "item_id", "ts", "value", "event_id", "event_type", "context")
ITEM_COLUMNS = ("item_id", "title", "description", "brand", "category", "price", "available_from", "available_to")
_ATTRIBUTE = "attributes."
_OPTIONS_OF_THE_PLATFORM = ("header", "inferschema", "enforceschema", "mode", "columnnameofcorruptrecord")


class Section(BaseModel):
    """What every section is: nothing changes it, no key is unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RunConfig(Section):
    id: SliceName
    seed: Whole


class SourceConfig(Section):
    format: Literal["csv", "tsv", "jsonl", "parquet", "delta"]
    path: Text
    options: dict[str, Scalar]

    @field_validator("options")
    @classmethod
    def _nothing_gets_lost(cls, options: dict[str, Any]) -> dict[str, Any]:
        taken = [name for name in options if name.lower() in _OPTIONS_OF_THE_PLATFORM]
        if taken:
            raise misfit(
                wanted="options that lose no row and no column",
                found=", ".join(taken),
                do="Leave it out: the platform sets it itself.",
            )
        return options


class TimestampConfig(Section):
    format: TimestampPattern
    zone: Zone


class EventsConfig(Section):
    source: SourceConfig
    columns: dict[str, str]
    event_type: Text | None
    timestamp: TimestampConfig
    batch: Text
    max_rejected_share: Share

    @model_validator(mode="after")
    def _columns_are_whole(self) -> EventsConfig:
        require_mapping(self.columns, known=EVENT_COLUMNS, needed=("user_id", "item_id", "ts"))
        is_mapped = "event_type" in self.columns.values()
        if (self.event_type is None) != is_mapped:
            raise misfit(
                where="event_type",
                wanted="one source of event types: the same for all events, or a column",
                found="both" if is_mapped else "neither",
                do="Give event_type: purchase, or map YOUR_COLUMN: event_type in columns, and not both.",
            )
        return self


class ItemsConfig(Section):
    source: SourceConfig
    columns: dict[str, str]
    timestamp: TimestampConfig
    max_rejected_share: Share

    @model_validator(mode="after")
    def _columns_are_whole(self) -> ItemsConfig:
        require_mapping(self.columns, known=ITEM_COLUMNS, needed=("item_id",), free=_ATTRIBUTE)
        return self


class ItemTextConfig(Section):
    template: str
    max_tokens: Annotated[Whole, Field(ge=4, le=512)]


class SplitConfig(Section):
    """The global time split. Windows are half-open: [start, start + days)."""

    test_start: Instant
    test_days: Count
    validation_days: Count
    target_event_types: Annotated[list[str], Field(min_length=1)]

    @property
    def test_end(self) -> datetime:
        return self.test_start + timedelta(days=self.test_days)

    @property
    def validation_start(self) -> datetime:
        return self.test_start - timedelta(days=self.validation_days)


class SequencesConfig(Section):
    max_events: Annotated[Whole, Field(ge=1, le=1024)]
    max_targets: Count
    event_types: list[str]
    train_windows: Count
    window_days: Count
    num_files: Count


class ModelConfig(Section):
    embedding_dim: Annotated[Whole, Field(ge=8, multiple_of=8)]
    user_layers: Count
    user_heads: Count
    dropout: Share
    trainable_encoder_layers: Annotated[Whole, Field(ge=0)]
    id_min_targets: Count


class TrainConfig(Section):
    ranks: Count
    start_timeout_seconds: Count
    epochs: Count
    patience: Count
    batch_rows: Count
    targets_per_row: Count
    random_negatives: Annotated[Whole, Field(ge=0)]
    live_texts: Annotated[Whole, Field(ge=0)]
    learning_rate: Positive
    encoder_learning_rate: Positive
    weight_decay: Annotated[float, Field(ge=0)]
    warmup_share: Share
    validation_k: Count


class TrackingConfig(Section):
    uri: str
    artifacts: str | None
    experiment: str
    model_name: str


class EmbedConfig(Section):
    back_end: BackEndName
    batch_tokens: Annotated[Whole, Field(ge=512)]
    batch_users: Count


class ScoreConfig(Section):
    top_k: Count
    user_block: Count
    worker_mib: Count
    checked_share: Share


class SimilarConfig(Section):
    top_k: Count
    top_users: Count


class RuleSourceConfig(SourceConfig):
    """One that conf/base.yaml cannot hold, since users name it: its options may be left out."""

    options: dict[str, Scalar] = {}


class RuleTableConfig(Section):
    source: RuleSourceConfig
    columns: dict[str, Text]

    @field_validator("columns")
    @classmethod
    def _names_can_stand_in_sql(cls, columns: dict[str, str]) -> dict[str, str]:
        names = list(columns.values())
        unfit = [name for name in names if not re.fullmatch(r"[A-Za-z_]\w*", name)]
        small = [name.lower() for name in names]
        twice = sorted({name for name in names if small.count(name.lower()) > 1})
        if unfit or twice:
            raise misfit(
                wanted="names of letters, digits and _ on the right, each once, in small or capital letters",
                found=", ".join(unfit or twice),
                do="Rules name these columns in SQL: write for example home_region.",
            )
        return columns


class RulesConfig(Section):
    """What lists may hold, besides the seen rules; docs/rules.md has an example of each."""

    item_tables: dict[str, RuleTableConfig]
    user_tables: dict[str, RuleTableConfig]
    conditions: dict[str, Text]
    caps: dict[str, Count]
    blocked: RuleTableConfig | None
    pinned: RuleTableConfig | None
    max_segments: Count

    @field_validator("item_tables", "user_tables", "conditions", "caps", mode="before")
    @classmethod
    def _null_takes_back(cls, rules: Any) -> Any:
        """All of them, or one that an earlier file gives. Names are put in order: that in which they are written
        changes nothing."""
        if not isinstance(rules, dict):
            return {} if rules is None else rules
        return {name: rules[name] for name in sorted(rules) if rules[name] is not None}

    @model_validator(mode="after")
    def _tables_have_their_keys(self) -> RulesConfig:
        keys = {
            **{f"item_tables.{name}": (table, ["item_id"]) for name, table in self.item_tables.items()},
            **{f"user_tables.{name}": (table, ["user_id"]) for name, table in self.user_tables.items()},
            "blocked": (self.blocked, ["user_id", "item_id"]),
            "pinned": (self.pinned, ["item_id", "position"]),
        }
        missing = {
            where: sorted(set(wanted) - set(table.columns.values()))
            for where, (table, wanted) in keys.items()
            if table is not None
        }
        problems = [
            Problem(f"{where}.columns", f"a source column for {name}", "none", f"Add a line YOUR_COLUMN: {name}.")
            for where, names in missing.items()
            for name in names
        ]
        if problems:
            raise Misfit(*problems)
        return self


class RankConfig(Section):
    list_size: Count
    history_decay_days: Positive
    history_top_k: Count
    blend_k: Count
    tower_weights: Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=1)]


class EvaluateConfig(Section):
    ks: Annotated[list[Count], Field(min_length=1)]
    popular_days: Count
    personal_decay_days: Positive
    knn_history: Count
    knn_neighbours: Count
    bootstrap_replicates: Count


class ReportConfig(Section):
    num_users: Count
    history_shown: Count


class Config(Section):
    """The whole tree. Code below the runner gets its own section or plain values, never this."""

    run: RunConfig
    warehouse: Text
    landing: Text
    spark: dict[str, Scalar]
    seen_rules: Annotated[list[SeenRule], Field(min_length=1)]
    events: EventsConfig
    items: ItemsConfig
    encoder: str
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
    def _template_is_fed(self) -> Config:
        named = set(re.findall(r"\{([^{}]*)\}", self.item_text.template))
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

    def section(self, path: str) -> Any:
        """The value at a dotted path, as plain JSON types: `section("run.seed")`."""
        value: Any = self.model_dump(mode="json")
        for key in path.split("."):
            value = value[key]
        return value
