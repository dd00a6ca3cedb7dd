"""Reads the rules' tables and refuses what cannot be meant, before anything is scored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from recsys_spark import columns as c
from recsys_spark.config import Config
from recsys_spark.config.sections import RulesConfig, RuleTableConfig
from recsys_spark.errors import RecsysError, problem
from recsys_spark.tables.catalog import ITEMS
from recsys_spark.tables.source import MALFORMED, list_files, own_columns, read_source, require_columns
from recsys_spark.tables.store import first_row
from recsys_spark.transforms.rules import Rules, describe_items, describe_users

_IDS = (c.USER_ID, c.ITEM_ID)


def rule_files(spark: SparkSession, config: Config) -> list[str]:
    """State of the files that rules read: changed ones are a changed input."""
    return [line for table in _tables(config.rules).values() for line in list_files(spark, table.source.path)]


def load_rules(spark: SparkSession, config: RulesConfig, *, list_size: int) -> Rules:
    """The rules with their tables, each read and looked through once.

    Raises the typed error for a table without the mapped columns, with rows that cannot be read, with null or repeated
    keys, or with columns that ITEMS or another table has; for positions that no list of `list_size` has; for SQL that
    Spark refuses, that is not true or false, or that says something else each time.
    """
    tables = {where: _read(spark, table, where) for where, table in _tables(config).items()}
    rules = Rules(
        conditions=dict(config.conditions),
        caps=dict(config.caps),
        item_tables=_below(tables, "rules.item_tables.", c.ITEM_ID),
        user_tables=_below(tables, "rules.user_tables.", c.USER_ID),
        blocked=tables["rules.blocked"].select(*_IDS).distinct() if config.blocked else None,
        pinned=_pins(tables["rules.pinned"], list_size) if config.pinned else None,
    )
    _require_own_columns(tables)
    _require_sql(spark, rules)
    return rules


def require_few_segments(segments: DataFrame, *, max_segments: int) -> None:
    """Raise the typed error when conditions tell more kinds of users apart than `rules.max_segments`."""
    num_segments = segments.count()
    if num_segments > max_segments:
        raise problem(
            "configuration, rules.conditions",
            wanted=f"conditions that tell at most {max_segments:,} kinds of users apart (rules.max_segments)",
            found=f"{num_segments:,}",
            do="Round the user columns they name, as price limits to a few steps, or raise the number: each kind costs"
            " a bit for every item, and the conditions are worked out for each.",
        )


def _tables(config: RulesConfig) -> dict[str, RuleTableConfig]:
    found: dict[str, RuleTableConfig | None] = {
        **{f"rules.item_tables.{name}": table for name, table in config.item_tables.items()},
        **{f"rules.user_tables.{name}": table for name, table in config.user_tables.items()},
        "rules.blocked": config.blocked,
        "rules.pinned": config.pinned,
    }
    return {where: table for where, table in found.items() if table is not None}


def _read(spark: SparkSession, table: RuleTableConfig, where: str) -> DataFrame:
    rows = read_source(spark, table.source, where)
    require_columns(rows, table.columns, where)
    # Spark finds broken rows only where it reads whole ones: the hash has no other use.
    whole = F.max(F.xxhash64(*(F.col(f"`{name}`") for name in own_columns(rows))))
    num_broken = first_row(rows.agg(F.count(MALFORMED).alias(MALFORMED), whole))[MALFORMED]
    if num_broken:
        raise problem(
            f"configuration, {where}.source.path",
            wanted=f"rows of {table.source.format} that can be read",
            found=f"{num_broken:,} that cannot",
            do="Mend the file: a rule that is only read in part would bar what it should not.",
        )
    named = {target: F.col(f"`{name}`") for name, target in table.columns.items()}
    return rows.select(
        *[(value.cast("string") if name in _IDS else value).alias(name) for name, value in named.items()]
    )


def _below(tables: Mapping[str, DataFrame], prefix: str, key: str) -> tuple[DataFrame, ...]:
    """The tables whose names begin with `prefix`: one row per key each."""
    chosen = {where: rows for where, rows in tables.items() if where.startswith(prefix)}
    for where, rows in chosen.items():
        faults = first_row(rows.agg(F.count(F.lit(1)).alias("rows"), F.countDistinct(key).alias("keys")))
        if faults["rows"] != faults["keys"]:
            raise problem(
                f"configuration, {where}",
                wanted=f"one row for each {key}",
                found=f"{faults['rows']:,} rows, {faults['keys']:,} different keys",
                do="Leave out rows without a key, and decide which of several rows counts.",
            )
    return tuple(chosen.values())


def _pins(rows: DataFrame, list_size: int) -> DataFrame:
    pins = rows.select(c.ITEM_ID, F.expr(f"try_cast({c.POSITION} AS int)").alias(c.POSITION)).distinct()
    is_place = F.coalesce(F.col(c.POSITION).between(1, list_size), F.lit(False))
    num_lost = pins.where(~is_place).count()
    if num_lost:
        raise problem(
            "configuration, rules.pinned",
            wanted=f"positions from 1 to {list_size} (rank.list_size)",
            found=f"{num_lost:,} rows with others",
            do="Change the positions, or make the lists longer.",
        )
    return pins


def _require_own_columns(tables: Mapping[str, DataFrame]) -> None:
    taken = dict.fromkeys(ITEMS.column_names, "ITEMS")
    for where, rows in tables.items():
        side = "user." if where.startswith("rules.user_tables.") else ""
        for name in rows.columns if where.startswith(("rules.item_tables.", "rules.user_tables.")) else ():
            if name not in _IDS and side + name in taken:
                raise problem(
                    f"configuration, {where}.columns",
                    wanted="names of its own",
                    found=f"{name}, which {taken[side + name]} has",
                    do=f"Give it another name on the right side, as {name}_2.",
                )
            taken.setdefault(side + name, where)


def _require_sql(spark: SparkSession, rules: Rules) -> None:
    items = describe_items(spark.createDataFrame([], ITEMS.schema), rules)
    nobody = spark.createDataFrame([], f"{c.USER_ID} string, {c.AS_OF} timestamp")
    pairs = describe_users(nobody, rules).crossJoin(items)
    for name, sql in rules.conditions.items():
        _require_expression(pairs, sql, f"rules.conditions.{name}", wanted="boolean")
    for sql in rules.caps:
        _require_expression(items, sql, f"rules.caps, {sql}", wanted="")


def _require_expression(rows: DataFrame, sql: str, where: str, *, wanted: str) -> None:
    try:
        made = rows.select(F.expr(sql).alias("value"))
        expression: Any = made._jdf.queryExecution().analyzed().expressions().head()
        is_steady, kind = expression.deterministic(), made.schema["value"].dataType.simpleString()
    except PySparkException as error:
        raise _not_sql(rows, sql, where, str(error).splitlines()[0]) from None
    if wanted and kind != wanted:
        raise _not_sql(rows, sql, where, f"its value is {kind}")
    if not is_steady:
        raise _not_sql(rows, sql, where, "it says something else each time")


def _not_sql(rows: DataFrame, sql: str, where: str, why: str) -> RecsysError:
    known = [
        f"{field.name}.{name}" if hasattr(field.dataType, "names") else field.name
        for field in rows.schema.fields
        for name in getattr(field.dataType, "names", [""])
        if field.name not in _IDS and name not in (c.USER_ID, "nothing")
    ]
    return problem(
        f"configuration, {where}",
        wanted="a SQL expression that is true or false" if "conditions" in where else "a SQL expression over the item",
        found=f"{sql} ({why})",
        do=f"Columns are {', '.join(known)}.",
    )
