"""One configuration tree: YAML files laid over each other, then `--set a.b=value`, then checked as a whole.

Every default stands once, in conf/base.yaml; the classes below only say what may stand there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from recsys_spark.errors import Problem, RecsysError, did_you_mean, problem

REQUIRED = "required"
"""What conf/base.yaml says where a data set or a cluster has to give the value."""

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
SeenRule = Literal["keep", "drop"]


class Section(BaseModel):
    """A section of the tree: immutable, every key known, no default of its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RunConfig(Section):
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    seed: int


class SourceConfig(Section):
    format: Literal["csv", "tsv", "jsonl", "parquet", "delta"]
    path: str


class TimestampConfig(Section):
    format: str
    zone: str


EVENT_COLUMNS = ("user_id", "item_id", "ts", "value", "event_id", "event_type", "context")
ITEM_COLUMNS = ("item_id", "title", "description", "brand", "category", "price", "available_from", "available_to")


def _require_mapping(columns: dict[str, str], *, known: Sequence[str], needed: Sequence[str]) -> None:
    """Every target is a platform column (an item may have attributes of any name), once, the needed ones too."""
    targets = list(columns.values())
    unknown = [target for target in targets if target not in known and not target.startswith("attributes.")]
    if unknown:
        raise ValueError(f"'{unknown[0]}' is no platform column. {did_you_mean(unknown[0], known)}")
    missing = [target for target in needed if target not in targets]
    if missing:
        raise ValueError(f"no source column is mapped to {' and '.join(missing)}")
    repeated = sorted({target for target in targets if targets.count(target) > 1})
    if repeated:
        raise ValueError(f"several source columns are mapped to {', '.join(repeated)}")


class EventsConfig(Section):
    source: SourceConfig
    columns: dict[str, str]
    event_type: str | None
    timestamp: TimestampConfig
    batch: str
    max_rejected_share: Share

    @model_validator(mode="after")
    def _columns_are_whole(self) -> EventsConfig:
        attributes = [target for target in self.columns.values() if target.startswith("attributes.")]
        if attributes:
            raise ValueError(f"'{attributes[0]}': only items have attributes; an event has one `context`")
        _require_mapping(self.columns, known=EVENT_COLUMNS, needed=("user_id", "item_id", "ts"))
        if (self.event_type is None) == ("event_type" not in self.columns.values()):
            raise ValueError("give event_type once: as a constant (event_type: purchase) or as a mapped column")
        return self


class ItemsConfig(Section):
    source: SourceConfig
    columns: dict[str, str]
    timestamp: TimestampConfig
    max_rejected_share: Share

    @model_validator(mode="after")
    def _columns_are_whole(self) -> ItemsConfig:
        _require_mapping(self.columns, known=ITEM_COLUMNS, needed=("item_id",))
        return self


class ItemTextConfig(Section):
    template: str
    max_tokens: Annotated[int, Field(ge=4, le=512)]


def _as_utc(value: Any) -> Any:
    """YAML gives a date or a time without zone; both mean UTC."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) and value.tzinfo is None else value


class SplitConfig(Section):
    """The global time split. Windows are half-open: [start, start + days)."""

    test_start: Annotated[datetime, BeforeValidator(_as_utc)]
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
    max_events: Annotated[int, Field(ge=1, le=1024)]
    max_targets: Count
    event_types: list[str]
    train_windows: Count
    window_days: Count
    num_files: Count


class ModelConfig(Section):
    embedding_dim: Annotated[int, Field(ge=8, multiple_of=8)]
    user_layers: Count
    user_heads: Count
    dropout: Share
    trainable_encoder_layers: Annotated[int, Field(ge=0)]
    id_min_targets: Count


class TrainConfig(Section):
    ranks: Count
    start_timeout_seconds: Count
    epochs: Count
    patience: Count
    batch_rows: Count
    targets_per_row: Count
    random_negatives: Annotated[int, Field(ge=0)]
    live_texts: Annotated[int, Field(ge=0)]
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
    batch_tokens: Annotated[int, Field(ge=512)]
    batch_users: Count


class ScoreConfig(Section):
    top_k: Count
    user_block: Count
    item_block: Count


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
    warehouse: str
    landing: str
    spark: dict[str, str | int | float | bool]
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
    score: ScoreConfig
    rank: RankConfig
    evaluate: EvaluateConfig
    report: ReportConfig

    @model_validator(mode="after")
    def _sizes_agree(self) -> Config:
        longest = max(self.evaluate.ks)
        if self.rank.list_size < longest:
            raise ValueError(f"rank.list_size ({self.rank.list_size}) is below the largest of evaluate.ks ({longest})")
        if self.model.embedding_dim % self.model.user_heads:
            raise ValueError("model.embedding_dim is no multiple of model.user_heads")
        return self

    def section(self, path: str) -> Any:
        """The value at a dotted path, as plain JSON types: `section("run.seed")`."""
        value: Any = self.model_dump(mode="json")
        for key in path.split("."):
            value = value[key]
        return value


def load_config(files: Sequence[str], settings: Sequence[str] = ()) -> Config:
    """Lay `files` over each other, then `settings` (`a.b=value`, the value as YAML); raise every problem at once."""
    tree: dict[str, Any] = {}
    for file in files:
        tree = _overlay(tree, _read_yaml(file))
    for setting in settings:
        tree = _overlay(tree, _parse_setting(setting))
    missing = [
        Problem(
            where=f"configuration, {path}",
            wanted="a value",
            found="none",
            do=f"Give it in a configuration file, or with --set {path}=….",
        )
        for path in _required_paths(tree)
    ]
    if missing:
        raise RecsysError(missing)
    tree = _fill_places(tree)
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        raise RecsysError([_as_problem(dict(detail)) for detail in error.errors()]) from None


def _read_yaml(file: str) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise problem(
            "--conf-file", wanted="a YAML file", found=f"no file {file}", do=f"Look at its path (now in {Path.cwd()})."
        ) from None
    except yaml.YAMLError as error:
        raise problem(f"file {file}", wanted="YAML", found=str(error), do="Mend the line it names.") from None
    if not isinstance(tree, dict | None):
        raise problem(f"file {file}", wanted="keys and values", found=type(tree).__name__, do="See conf/base.yaml.")
    return tree or {}


def _parse_setting(setting: str) -> dict[str, Any]:
    path, equals, text = setting.partition("=")
    if not equals or not path:
        raise problem("--set", wanted="a.b=value", found=setting, do="Write for example --set score.top_k=50.")
    value: Any = yaml.safe_load(text)
    for key in reversed(path.split(".")):
        value = {key: value}
    return dict(value)


_FREE_MAPS = ("columns",)
"""Maps a later file replaces whole: mixing two data sets' columns would help nobody."""


def _overlay(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        both_trees = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _overlay(merged[key], value) if both_trees and key not in _FREE_MAPS else value
    return merged


def _required_paths(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _required_paths(value, f"{prefix}{key}.")
        elif value == REQUIRED:
            yield f"{prefix}{key}"


def _fill_places(tree: dict[str, Any]) -> dict[str, Any]:
    """Replace {warehouse} and {landing} in the values that are places."""
    places = {name: str(tree.get(name, "")) for name in ("warehouse", "landing")}

    def fill(text: str | None) -> str | None:
        for name, place in places.items():
            text = text.replace(f"{{{name}}}", place) if text else text
        return text

    filled = _overlay(tree, {})
    for section, key in (("tracking", "uri"), ("tracking", "artifacts")):
        if isinstance(filled.get(section), dict) and key in filled[section]:
            filled[section] = {**filled[section], key: fill(filled[section][key])}
    for section in ("events", "items"):
        source = filled.get(section, {}).get("source") if isinstance(filled.get(section), dict) else None
        if isinstance(source, dict) and isinstance(source.get("path"), str):
            filled[section] = {**filled[section], "source": {**source, "path": fill(source["path"])}}
    return filled


def _as_problem(detail: dict[str, Any]) -> Problem:
    path = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        parent = _section_class(detail["loc"][:-1])
        hint = did_you_mean(str(detail["loc"][-1]), parent.model_fields)
        return Problem(where=f"configuration, {path}", wanted="a known key", found=f"'{detail['loc'][-1]}'", do=hint)
    if detail["type"] == "missing":
        return Problem(
            where=f"configuration, {path}",
            wanted="a value",
            found="none",
            do="Start the --conf-file list with conf/base.yaml, which holds every default.",
        )
    found = "this section" if isinstance(detail["input"], dict) else json.dumps(detail["input"], default=str)
    message = detail["msg"].removeprefix("Value error, ")
    return Problem(
        where=f"configuration{', ' + path if path else ''}", wanted="a value that fits", found=found, do=f"{message}."
    )


def _section_class(loc: Sequence[Any]) -> type[BaseModel]:
    section: type[BaseModel] = Config
    for part in loc:
        annotation = section.model_fields[str(part)].annotation
        assert isinstance(annotation, type) and issubclass(annotation, BaseModel)
        section = annotation
    return section
