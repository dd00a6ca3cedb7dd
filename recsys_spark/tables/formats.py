"""Formats that sources come in, as frames of every row: texts where they are texts, broken rows beside the others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import reduce
from operator import add
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
INNER_LINES = f"{OURS}inner_lines"
"""How many line breaks the row's fields hold: lines of the file that begin no row."""
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
_LINE_BREAK: Final = r"\r\n|\r|\n"
_ESCAPED: Final = {
    r"\t": "\t",
    r"\r": "\r",
    r"\b": "\b",
    r"\f": "\f",
    r"\\": "\\",
    r"\"": '"',
    r"\'": "'",
    r"\u0000": "\0",
}
"""What Spark takes for the separator when a configuration says `sep: '\t'`."""
_KEPT_BY_SPARK: Final = {"ignoreCorruptFiles": "false", "ignoreMissingFiles": "false"}
"""Spark would leave out the rest of a broken file without a word, where a cluster's settings say so."""
_WIDE: Final = ("UTF-16", "UTF-32", "UTF16", "UTF32")


_LINE: Final = f"{OURS}line"
_MAY_HAVE_MORE: Final = r"\}\s*([^\s,}\]]|,\s*\{)"
"""A bracket that closes an object, and more that neither closes another one nor goes on in it; texts have it too."""
_END_IN_A_LIST: Final = r"(?<=\})\s*[,\]]\s*$"
"""Behind an object that is a line of a list."""
_SHOWN: Final = 200


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
    return reader.options(**TEXT_OPTIONS.get(source.format, {})).options(**_options(source))


def _options(source: SourceConfig) -> dict[str, str]:
    """The source's own and those that let no file and no line be passed over."""
    given = {name: str(value) for name, value in source.options.items()}
    if source.format == "delta":
        return given
    if source.format == "jsonl" and _encoding(source) and not _option(source, "linesep"):
        given["lineSep"] = "\n"  # Spark wants it beside an encoding
    return {"recursiveFileLookup": "true", **_KEPT_BY_SPARK, **given}


def _encoding(source: SourceConfig) -> str:
    """The source's encoding where it is not UTF-8, in capital letters; else empty."""
    encoding = _option(source, "encoding", "charset").upper()
    return "" if encoding in ("UTF-8", "UTF8") else encoding


def _option(source: SourceConfig, *names: str) -> str:
    """The value of the source's option of one of these names, in small or capital letters; empty for none."""
    return next((str(value) for name, value in source.options.items() if name.lower() in names), "")


def load(spark: SparkSession, source: SourceConfig, where: str) -> DataFrame:
    if source.format in ("csv", "tsv"):
        return _load_csv(spark, source, where)
    if source.format == "jsonl":
        return _load_jsonl(spark, source, where)
    rows = reader_of(spark, source).load(path_of(spark, source))
    return rows.select("*", F.lit(None).cast("string").alias(MALFORMED), *_no_lines(), *_places(rows))


def load_unparsed(spark: SparkSession, source: SourceConfig) -> DataFrame:
    """As many rows as the source has, to be counted: their columns are neither asked for nor, in texts, inferred."""
    if source.format == "jsonl":
        return _load_lines(spark, source)
    reader = reader_of(spark, source)
    if source.format in TEXT_OPTIONS:
        reader = reader.schema(StructType([StructField(MALFORMED, StringType())]))
    return reader.options(header="true", enforceSchema="true").load(path_of(spark, source))


def _no_lines() -> list[Column]:
    """SWALLOWED and INNER_LINES of formats that have no line breaks inside of rows, or none that matter."""
    return [F.lit(0).alias(SWALLOWED), F.lit(0).alias(INNER_LINES)]


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
    nameless = [str(place) for place, name in enumerate(names, start=1) if not name]
    if len(nameless) > 1:
        raise problem(
            where,
            wanted="a header with at most one column without a name",
            found=f"columns {', '.join(nameless)} without a name in {source.path}",
            do="Name them, or delete those that are empty: spreadsheets leave such columns behind.",
        )
    schema = StructType([StructField(name, StringType()) for name in [*names, MALFORMED]])
    reader = reader_of(spark, source).schema(schema)
    rows = reader.options(header="true", mode="PERMISSIVE", columnNameOfCorruptRecord=MALFORMED).load(path)
    named = rows.select("*", *_no_lines(), *_places(rows)).toDF(
        *own, MALFORMED, SWALLOWED, INNER_LINES, FILE, BLOCK, NUMBER
    )
    if _option(source, "multiline").lower() != "true":
        return named
    sep = _option(source, "sep", "delimiter") or {"csv": ",", "tsv": "\t"}[source.format]
    fields = [F.col(quoted(name)) for name in own]
    return named.withColumns({SWALLOWED: _count_swallowed(fields, _unescaped(sep)), INNER_LINES: _count_lines(fields)})


def _unescaped(sep: str) -> str:
    return re.sub(r"\\(u0000|.)", lambda found: _ESCAPED.get(found[0], found[0]), sep)


def _count_lines(fields: Sequence[Column]) -> Column:
    counts = [_where_lines(field, F.size(F.split(field, _LINE_BREAK)) - 1) for field in fields]
    return reduce(add, counts, F.lit(0))


def _where_lines(field: Column, count: Column) -> Column:
    """The count for a field that holds line breaks, else 0: few do, and `count` costs more than to look for one."""
    return F.when(field.rlike(r"[\r\n]"), count).otherwise(0)


def _count_swallowed(fields: Sequence[Column], sep: str) -> Column:
    """Lines behind the first one of each field that look like rows: what a quote takes in that nobody closes.

    Either a line has the separators of a row (the last one may end early, at the next quote) and begins as the row
    does: its first field has the same kinds of letters, and digits among them, which prose hardly has there. Or two
    lines and more, all between the first and the last one, have exactly the separators of a row, and some without a
    blank behind, as prose has them. (Of two columns, prose with numbers as 1,000 is refused too: told, and not lost.)
    """
    num_separators = len(fields) - 1

    def num_separators_of(line: Column) -> Column:
        return F.size(F.split(line, rf"\Q{sep}\E")) - 1

    def shape(text: Column) -> Column:
        return F.regexp_replace(F.regexp_replace(F.trim(text), r"\p{Nd}+", "9"), r"\p{L}+", "a")

    def begins_as_the_row(line: Column, is_last: Column) -> Column:
        is_whole = (num_separators_of(line) >= num_separators) | (is_last & (num_separators_of(line) > 0))
        is_alike = shape(F.regexp_replace(F.split(line, rf"\Q{sep}\E")[0], '^"|"$', "")) == shape(fields[0])
        return is_whole & is_alike & shape(fields[0]).contains("9")

    def has_its_separators(line: Column) -> Column:
        return (num_separators_of(line) == num_separators) & line.rlike(rf"\Q{sep}\E(?! )")

    def count(field: Column) -> Column:
        lines = F.split(field, _LINE_BREAK)
        last = F.size(lines) - 1
        alike = F.filter(lines, lambda line, place: (place > 0) & begins_as_the_row(line, place == last))
        inner = F.slice(lines, 2, F.greatest(last - 1, F.lit(0)))
        are_rows = (last > 2) & F.forall(inner, has_its_separators)
        return _where_lines(field, F.when(are_rows, last).otherwise(F.size(alike)))

    return F.coalesce(reduce(add, map(count, fields), F.lit(0)), F.lit(0))


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
    _require_single_objects(spark, source, where)
    reader = reader_of(spark, source).schema(StructType([*own, StructField(MALFORMED, StringType())]))
    rows = reader.options(mode="PERMISSIVE", columnNameOfCorruptRecord=MALFORMED).load(path)
    return rows.select("*", *_no_lines(), *_places(rows))


def _require_single_objects(spark: SparkSession, source: SourceConfig, where: str) -> None:
    """Raise for lines on which more stands behind the first object: Spark stops there, and says nothing. And for whole
    lists, whose objects it makes rows of, so that rows could not be held against lines.

    (Parsed by `from_json`, rows would say so themselves, but numbers lose digits: 1.50 comes out as 1.5.)
    """
    options = {**_options(source), "columnNameOfCorruptRecord": MALFORMED}
    first = F.from_json(_LINE, f"{_LINE} string, {MALFORMED} string", options)
    listed = F.concat(F.lit(f'{{"{_LINE}": ['), F.regexp_replace(_LINE, _END_IN_A_LIST, ""), F.lit("]}"))
    all_of_them = F.from_json(listed, f"{_LINE} array<string>", options)[_LINE]
    is_one = F.coalesce(F.size(all_of_them) == 1, F.lit(False))
    has_more = F.col(_LINE).rlike(_MAY_HAVE_MORE) & ~is_one & first.isNotNull() & first[MALFORMED].isNull()
    is_list = F.col(_LINE).rlike(r"^\s*\[\s*[{\]]") & F.from_json(_LINE, "array<string>", options).isNotNull()
    lines = _load_lines(spark, source).where(has_more | is_list)
    found = lines.agg(F.count(F.lit(1)).alias(NUMBER), F.first(FILE).alias(FILE), F.first(_LINE).alias(_LINE)).first()
    if found is not None and found[NUMBER]:
        line = " ".join(found[_LINE].split())
        raise problem(
            where,
            wanted="one JSON object on each line",
            found=f"{found[NUMBER]:,} lines with more than one, or with a list, as in {found[FILE]}: "
            f"{line if len(line) <= _SHOWN else f'{line[:_SHOWN]}…'}",
            do="Write each object on a line of its own (jq -c '.[]' makes lines of a list).",
        )


def _load_lines(spark: SparkSession, source: SourceConfig) -> DataFrame:
    """The lines that are not blank, decoded, with the files that they are in."""
    lines = spark.read.format("text").options(**_options(source)).load(path_of(spark, source))
    encoding = _encoding(source)
    text = F.decode(F.col("value").cast("binary"), encoding) if encoding else F.col("value")
    return lines.select(text.alias(_LINE), *_places(lines)).where(F.btrim(_LINE, F.lit(" \t\r\n")) != "")


def require_lines(source: SourceConfig, section: str) -> None:
    """Spark finds the ends of lines by single bytes, unless rows of a CSV file may have several lines."""
    if not _encoding(source).startswith(_WIDE):
        return
    where = f"configuration, {section}.source.options"
    if source.format == "jsonl":
        raise problem(
            where,
            wanted="JSON lines in UTF-8, or in an encoding whose letters are single bytes",
            found=f"encoding: {_encoding(source)}",
            do="Save the file as UTF-8 (iconv -f UTF-16 -t UTF-8), and leave the option out.",
        )
    if _option(source, "multiline").lower() != "true":
        raise problem(
            where,
            wanted=f"multiLine: true beside encoding: {_encoding(source)}",
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
