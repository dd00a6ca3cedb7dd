"""Formats that sources come in, as frames of every row: texts where they are texts, broken rows beside the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pyspark.sql import Column, DataFrame, DataFrameReader, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StringType, StructField, StructType

from recsys_spark.config import SourceConfig
from recsys_spark.errors import problem
from recsys_spark.tables.files import SourceFile, as_pattern, folder_names

OURS = "_recsys_"
"""Begins the names of the columns that reading adds: a source may have a column of any other name."""
MALFORMED = f"{OURS}malformed"
"""The text of a row that is no row of its format (a CSV line with a field too many); null for a sound row."""
SWALLOWED = f"{OURS}swallowed"
"""How many lines inside of the row's fields look like rows of their own; 0 for most."""
FILE = f"{OURS}file"
BLOCK = f"{OURS}block"
NUMBER = f"{OURS}number"
"""FILE, BLOCK (its part that one task read) and NUMBER (of the row, among all) order the rows of a source."""

TEXT_OPTIONS: Final = {
    # enforceSchema: Spark compares every file's header with ours, instead of giving its columns other names.
    "csv": {"quote": '"', "escape": '"', "enforceSchema": "false"},
    "tsv": {"quote": '"', "escape": '"', "enforceSchema": "false", "sep": "\t"},
    "jsonl": {"primitivesAsString": "true"},
}
_SPARK_FORMAT: Final = {"csv": "csv", "tsv": "csv", "jsonl": "json", "parquet": "parquet", "delta": "delta"}
_HIVE_NULL: Final = "__HIVE_DEFAULT_PARTITION__"


def own_columns(rows: DataFrame) -> list[str]:
    """The columns that the source itself has."""
    return [name for name in rows.columns if not name.startswith(OURS)]


def quoted(name: str) -> str:
    """A column name as SQL takes it, whatever letters it has."""
    return "`" + name.replace("`", "``") + "`"


def path_of(spark: SparkSession, source: SourceConfig) -> str:
    return source.path if source.format == "delta" else as_pattern(spark, source.path)  # Delta reads no globs


def reader_of(spark: SparkSession, source: SourceConfig) -> DataFrameReader:
    """With recursiveFileLookup: left to itself, Spark reads no files beside a folder, and ids of folders as numbers."""
    reader = spark.read.format(_SPARK_FORMAT[source.format])
    deep = {} if source.format == "delta" else {"recursiveFileLookup": "true"}
    return reader.options(**deep, **TEXT_OPTIONS.get(source.format, {})).options(**_options(source))


def _options(source: SourceConfig) -> dict[str, str]:
    return {name: str(value) for name, value in source.options.items()}


def _option(source: SourceConfig, *names: str) -> str:
    """The value of the source's option of one of these names, in small or capital letters; empty for none."""
    return next((value for name, value in _options(source).items() if name.lower() in names), "")


def load(spark: SparkSession, source: SourceConfig, where: str) -> DataFrame:
    if source.format in ("csv", "tsv"):
        return _load_csv(spark, source, where)
    if source.format == "jsonl":
        return _load_jsonl(spark, source, where)
    rows = reader_of(spark, source).load(path_of(spark, source))
    return rows.select("*", F.lit(None).cast("string").alias(MALFORMED), F.lit(0).alias(SWALLOWED), *_places(rows))


def load_unparsed(spark: SparkSession, source: SourceConfig) -> DataFrame:
    """As many rows as the source has, to be counted: their columns are neither asked for nor, in texts, inferred."""
    reader = reader_of(spark, source)
    if source.format in TEXT_OPTIONS:
        reader = reader.schema(StructType([StructField(MALFORMED, StringType())]))
    return reader.options(header="true", enforceSchema="true").load(path_of(spark, source))


def _places(rows: DataFrame) -> list[Column]:
    """FILE, BLOCK and NUMBER; a source may have a column `_metadata` of its own."""
    metadata = rows.metadataColumn("_metadata")
    return [
        metadata.getField("file_path").alias(FILE),
        metadata.getField("file_block_start").alias(BLOCK),
        F.monotonically_increasing_id().alias(NUMBER),
    ]


def _load_csv(spark: SparkSession, source: SourceConfig, where: str) -> DataFrame:
    """Columns by the first file's header; a name without text (pandas' index) becomes _c0, _c1, … by its place."""
    path = path_of(spark, source)
    header = reader_of(spark, source).options(header="false").load(path).first()
    names = [] if header is None else [name or "" for name in header]
    own = [name.strip() or f"_c{place}" for place, name in enumerate(names)]
    _require_distinct(own, where, source)
    schema = StructType([StructField(name, StringType()) for name in [*names, MALFORMED]])
    reader = reader_of(spark, source).schema(schema)
    rows = reader.options(header="true", mode="PERMISSIVE", columnNameOfCorruptRecord=MALFORMED).load(path)
    named = rows.select("*", F.lit(0).alias(SWALLOWED), *_places(rows)).toDF(
        *own, MALFORMED, SWALLOWED, FILE, BLOCK, NUMBER
    )
    if _option(source, "multiline").lower() != "true":
        return named
    sep = _option(source, "sep", "delimiter") or {"csv": ",", "tsv": "\t"}[source.format]
    return named.withColumn(SWALLOWED, _count_swallowed(own, sep))


def _count_swallowed(own: Sequence[str], sep: str) -> Column:
    """Lines behind the first one of each field that look like rows: what a quote takes in that nobody closes.

    Such a line has the separators of a row (the last one may end early, at the next quote) and begins as the row does:
    its first field has the same kinds of letters, and digits among them, which prose hardly has there.
    """
    first = F.col(quoted(own[0]))

    def shape(text: Column) -> Column:
        return F.regexp_replace(F.regexp_replace(F.trim(text), r"\p{Nd}+", "9"), r"\p{L}+", "a")

    def is_row(line: Column, is_last: Column) -> Column:
        fields = F.split(line, rf"\Q{sep}\E")
        is_whole = (F.size(fields) >= len(own)) | (is_last & (F.size(fields) > 1))
        begins_alike = shape(F.regexp_replace(fields[0], '^"|"$', "")) == shape(first)
        return is_whole & begins_alike & shape(first).contains("9")

    def count(field: Column) -> Column:
        lines = F.split(field, r"\r\n|\r|\n")
        found = F.filter(lines, lambda line, place: (place > 0) & is_row(line, place == F.size(lines) - 1))
        return F.when(field.rlike(r"[\r\n]"), F.size(found)).otherwise(0)

    total = F.lit(0)
    for name in own:
        total = total + count(F.col(quoted(name)))
    return F.coalesce(total, F.lit(0))


def _load_jsonl(spark: SparkSession, source: SourceConfig, where: str) -> DataFrame:
    path = path_of(spark, source)
    guessed = reader_of(spark, source).options(columnNameOfCorruptRecord=MALFORMED).load(path).schema
    own = [field for field in guessed.fields if field.name != MALFORMED]
    if not own and MALFORMED in guessed.fieldNames():
        raise problem(
            where,
            wanted="a JSON object on each line",
            found=f"not one in {source.path}",
            do="Write each row on a line of its own, without a list around them. Text that is not UTF-8 needs its name"
            " in source.options, as {encoding: iso-8859-1}.",
        )
    reader = reader_of(spark, source).schema(StructType([*own, StructField(MALFORMED, StringType())]))
    rows = reader.options(mode="PERMISSIVE", columnNameOfCorruptRecord=MALFORMED).load(path)
    return rows.select("*", F.lit(0).alias(SWALLOWED), *_places(rows))


def require_lines(source: SourceConfig, section: str) -> None:
    """Spark finds the ends of CSV lines by single bytes, unless rows may have several lines."""
    encoding = _option(source, "encoding", "charset").upper()
    is_wide = encoding.startswith(("UTF-16", "UTF-32", "UTF16", "UTF32"))
    if is_wide and source.format != "jsonl" and _option(source, "multiline").lower() != "true":
        raise problem(
            f"configuration, {section}.source.options",
            wanted=f"multiLine: true beside encoding: {encoding}",
            found="encoding alone",
            do="Add it: without it Spark cuts such a text into lines in the middle of letters.",
        )


def _require_distinct(names: Sequence[str], where: str, source: SourceConfig) -> None:
    lower = [name.lower() for name in names]
    repeated = sorted({name for name in names if lower.count(name.lower()) > 1})
    if repeated:
        raise problem(
            where,
            wanted="a header that names each column once, in small or capital letters",
            found=f"{', '.join(repeated)} more than once in {source.path}",
            do="Rename the columns in the source.",
        )


# --- folders that are columns ----------------------------------------------------------------------------------------


def folder_columns(spark: SparkSession, files: Sequence[SourceFile], source: SourceConfig) -> list[str]:
    """Names of the columns that folders give, as day in day=monday/."""
    folders = folder_names(spark, _option(source, "basepath") or source.path, files)
    named = [folder.partition("=") for folder in folders]
    return list(dict.fromkeys(name for name, equals, _ in named if name and equals))


def with_folders(rows: DataFrame, folders: Sequence[str], where: str, source: SourceConfig) -> DataFrame:
    """Spark itself would read 00012 as the number 12, and drop files that lie beside a folder."""
    _require_distinct([*own_columns(rows), *folders], where, source)
    ours = [name for name in rows.columns if name.startswith(OURS)]
    own = [F.col(quoted(name)) for name in own_columns(rows)]
    return rows.select(*own, *[_folder_value(name).alias(name) for name in folders], *ours)


def _folder_value(name: str) -> Column:
    """What stands behind `name=` in the file's path: percent signs of the URI are undone, then those of Hive."""
    found = F.regexp_extract(_percent_decoded(F.col(FILE)), rf"^.*/\Q{name}\E=([^/]*)/", 1)
    return F.nullif(F.nullif(_percent_decoded(found), F.lit(_HIVE_NULL)), F.lit(""))


def _percent_decoded(text: Column) -> Column:
    return F.coalesce(F.try_url_decode(F.replace(text, F.lit("+"), F.lit("%2B"))), text)
