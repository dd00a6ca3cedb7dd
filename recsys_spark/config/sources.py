"""The sections that say what users bring: events, items, and the tables of rules."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from recsys_spark.config.misfit import Misfit, misfit
from recsys_spark.config.values import (
    Conditions,
    Count,
    Distinct,
    Line,
    Name,
    Named,
    NullTakesBack,
    Place,
    Settings,
    Share,
    SourceColumn,
    Text,
    TimestampPattern,
    Zone,
    require_mapping,
)
from recsys_spark.errors import Problem

EVENT_COLUMNS = ("user_id", "item_id", "ts", "value", "event_id", "event_type", "context")
ITEM_COLUMNS = ("item_id", "title", "description", "brand", "category", "price", "available_from", "available_to")
_ATTRIBUTE = "attributes."
_OPTIONS_OF_THE_PLATFORM = (
    "header", "inferschema", "enforceschema", "mode", "columnnameofcorruptrecord", "recursivefilelookup",
    "ignorecorruptfiles", "ignoremissingfiles",
)  # fmt: skip


class Section(BaseModel):
    """What every section is: nothing changes it, no key is unknown. As JSON and in print it shows no secret."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    def __repr_args__(self) -> Any:
        return self.model_dump(mode="json").items()


class SourceConfig(Section):
    format: Literal["csv", "tsv", "jsonl", "parquet", "delta"]
    path: Place
    options: Settings

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
        small = [name.lower() for name in options]
        twice = [name for name in options if small.count(name.lower()) > 1]
        if twice:
            do = "To Spark they are the same: leave one out."
            raise misfit(wanted="each option once, in small or capital letters", found=", ".join(twice), do=do)
        return options

    @model_validator(mode="after")
    def _lines_are_rows(self) -> SourceConfig:
        options = {name.lower(): str(value).lower() for name, value in self.options.items()}
        if self.format == "jsonl" and options.get("multiline") == "true":
            raise misfit(
                where="options",
                wanted="JSON lines: one object on each line",
                found="multiLine",
                do="Leave it out: with it Spark reads the first JSON text of each file and no other. Write a list of"
                " objects as lines (jq -c '.[]').",
            )
        return self


class TimestampConfig(Section):
    format: TimestampPattern
    zone: Zone


class EventsConfig(Section):
    source: SourceConfig
    columns: dict[SourceColumn, Name]
    where: Conditions
    event_type: Name | None
    missing: Distinct[Line]
    decimal: Literal[".", ","]
    repeats: Literal["refuse", "keep", "count"]
    timestamp: TimestampConfig
    batch: Name
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
    columns: dict[SourceColumn, Name]
    where: Conditions
    missing: Distinct[Line]
    decimal: Literal[".", ","]
    timestamp: TimestampConfig
    max_rejected_share: Share

    @model_validator(mode="after")
    def _columns_are_whole(self) -> ItemsConfig:
        require_mapping(self.columns, known=ITEM_COLUMNS, needed=("item_id",), free=_ATTRIBUTE)
        return self


class RuleSourceConfig(SourceConfig):
    """One that conf/base.yaml cannot hold, since users name it: its options may be left out."""

    options: Settings = {}


class RuleTableConfig(Section):
    source: RuleSourceConfig
    columns: dict[SourceColumn, Name]

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

    item_tables: Named[RuleTableConfig]
    user_tables: Named[RuleTableConfig]
    conditions: Conditions
    caps: Annotated[dict[Text, Count], NullTakesBack]
    blocked: RuleTableConfig | None
    pinned: RuleTableConfig | None
    max_segments: Annotated[int, Field(ge=1, le=1_000_000)]

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
