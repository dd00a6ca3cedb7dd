"""What a table promises: its columns, its key, its slices and the checks every row passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import StructField, StructType

from recsys_spark.errors import Problem, RecsysError

_KEY_RULES = ("null key", "repeated key")


@dataclass(frozen=True)
class Column:
    """A column's name, its Spark type as SQL text (`array<int>`) and what it means.

    `added` tells of a column that a table of an earlier release lacks: it is null where such a table is read, and the
    next write adds it to the table. A writer gives it like any other.
    """

    name: str
    sql_type: str
    meaning: str
    added: bool = False


@dataclass(frozen=True)
class Table:
    """A table of the platform.

    `slice_by` names the columns whose one value a write replaces (empty: a write replaces the whole table).
    `checks` maps the name of a rule to the SQL condition that every row meets. `changes_by_row` tells of a table that
    `Store.update` writes: a row that goes is marked in a deletion vector, and its file stays. `append_only` tells of
    one whose rows no run can make again.
    """

    name: str
    meaning: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    written_by: str
    slice_by: tuple[str, ...] = ()
    partition_by: tuple[str, ...] = ()
    checks: dict[str, str] = field(default_factory=dict)
    changes_by_row: bool = False
    append_only: bool = False

    @property
    def column_names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def has_grown(self) -> bool:
        """Whether a table of an earlier release may lack a column."""
        return any(column.added for column in self.columns)

    @property
    def schema(self) -> StructType:
        """The Spark schema; key columns are not nullable."""
        ddl = ", ".join(f"`{column.name}` {column.sql_type}" for column in self.columns)
        schema = StructType.fromDDL(ddl)
        assert isinstance(schema, StructType)
        return StructType([StructField(f.name, f.dataType, f.name not in self.key) for f in schema.fields])

    def of_rows(self, spark: SparkSession, rows: Sequence[Row]) -> DataFrame:
        """A frame of the driver's own rows (or of none), all columns in each.

        By way of Arrow they are in the plan: a frame that Spark makes of Rows starts a Python worker at every use.
        """
        own = pa.Table.from_pylist([row.asDict() for row in rows], schema=to_arrow_schema(self.schema))
        return spark.createDataFrame(own, self.schema)

    def select(
        self, rows: DataFrame, do: str = "Mend the transform that makes it, or the contract in tables/catalog.py."
    ) -> DataFrame:
        """The table's columns in their order; a missing column or another type is an error, never a cast.

        `do` is what the error advises.
        """
        found = {f.name: f.dataType.simpleString() for f in rows.schema.fields}
        problems = [
            Problem(
                where=f"table {self.name}, column {column.name}",
                wanted=column.sql_type,
                found=found.get(column.name, "no such column"),
                do=do,
            )
            for column in self.columns
            if found.get(column.name) != column.sql_type
        ]
        if problems:
            raise RecsysError(problems)
        return rows.select(*self.column_names)

    def fill_added(self, rows: DataFrame) -> DataFrame:
        """The rows of a table that may be of an earlier release, with a null in each column that was added since."""
        missing = [column for column in self.columns if column.added and column.name not in rows.columns]
        return rows.withColumns({column.name: F.lit(None).cast(column.sql_type) for column in missing})

    def count_faults(self, rows: DataFrame) -> DataFrame:
        """One row of counts: `rows`, then the rows that break each rule of the contract.

        Null keys, repeated keys and every check are counted in a single aggregation over the keys. (SQL texts: a frame
        built of Column objects asks the JVM a hundred times, a twentieth of a second for every table that is written.)
        """
        has_null_key = " OR ".join(f"{name} IS NULL" for name in self.key)
        broken = {name: f"sum(if({condition}, 0, 1))" for name, condition in self.checks.items()}
        of_key = {"rows": "count(1)", "null key": f"max({has_null_key})", **broken}
        of_all = {
            "rows": "sum(rows)",
            "null key": "sum(if(`null key`, rows, 0))",
            "repeated key": "sum(rows - 1)",
            **{name: f"sum(`{name}`)" for name in broken},
        }
        per_key = rows.groupBy(*self.key).agg(*[F.expr(f"{sql} AS `{name}`") for name, sql in of_key.items()])
        return per_key.selectExpr(*[f"coalesce({sql}, 0) AS `{name}`" for name, sql in of_all.items()])

    def require_sound(self, faults: dict[str, int]) -> None:
        """Raise with every broken rule and how many rows break it; `faults` is `count_faults` as a dict."""
        problems = [
            Problem(
                where=f"table {self.name}",
                wanted=f"no {rule} ({', '.join(self.key)})" if rule in _KEY_RULES else f"every row to pass '{rule}'",
                found=f"{count:,} of {faults['rows']:,} rows {'with one' if rule in _KEY_RULES else 'that do not'}",
                do=f"Nothing was written. Look at what {self.written_by} reads and makes.",
            )
            for rule, count in faults.items()
            if rule != "rows" and count
        ]
        if problems:
            raise RecsysError(problems)
