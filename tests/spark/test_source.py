"""Sources of any format are read whole, the broken rows too; what cannot be read says what to do."""

import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest
from pyspark.sql import functions as F

from recsys_spark.config import SourceConfig
from recsys_spark.errors import RecsysError
from recsys_spark.tables.files import list_files
from recsys_spark.tables.formats import BLOCK, FILE, MALFORMED, NUMBER, own_columns
from recsys_spark.tables.source import count_rows, read_source, require_columns, require_timestamp_format

pytestmark = pytest.mark.spark


@pytest.fixture
def put(tmp_path):
    """Writes a file below the test's folder and returns the source that reads it, or its folder or a glob."""

    def write(name, content, *, path=None, **options):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        whole = content if isinstance(content, bytes) else content.encode()
        file.write_bytes(gzip.compress(whole) if name.endswith(".gz") else whole)
        kind = next(part for part in name.split(".")[1:] if part in ("csv", "tsv", "jsonl"))
        return SourceConfig(format=kind, path=str(tmp_path / (path or name)), options=options)

    return write


def rows_of(spark, source):
    """(values of the source's own columns …, text of a malformed row) in the order of the source."""
    rows = read_source(spark, source, "events")
    found = sorted(rows.collect(), key=lambda row: (row[FILE], row[BLOCK], row[NUMBER]))
    assert len(found) == count_rows(spark, source, "events"), "counted without parsing, and parsed"
    return [(*[row[name] for name in own_columns(rows)], row[MALFORMED]) for row in found]


def told(act, *arguments):
    with pytest.raises(RecsysError) as raised:
        act(*arguments)
    return [str(each) for each in raised.value.problems]


# --- every row -------------------------------------------------------------------------------------------------------


def test_csv_rows_come_as_they_were_written_the_malformed_ones_with_their_text(spark, put):
    lines = ["\ufeffuser,item.id", 'u1,"a, ""b"""', "", " u2 ,007", "u3,", "u4", "u5,e,x", "   ", "u6,1e3"]
    assert rows_of(spark, put("events.csv", "\r\n".join(lines))) == [
        ("u1", 'a, "b"', None),
        (" u2 ", "007", None),
        ("u3", None, None),
        ("u4", None, "u4"),
        ("u5", "e", "u5,e,x"),
        ("u6", "1e3", None),
    ]


def test_options_reach_the_reader(spark, put):
    text = 'user;item\nu1;"two\nlines; größer"\nu2;b\n'.encode("iso-8859-1")
    source = put("events.csv.gz", text, sep=";", encoding="iso-8859-1", multiLine="true")
    assert rows_of(spark, source) == [("u1", "two\nlines; größer", None), ("u2", "b", None)]


def test_tsv_files_of_a_folder_are_one_source(spark, put):
    put("in/b.tsv", 'user\titem\nu3\t"c\td"\n')
    source = put("in/a.tsv.gz", "user\titem\nu1\ta,b\nu2\tb\n", path="in")
    assert rows_of(spark, source) == [("u1", "a,b", None), ("u2", "b", None), ("u3", "c\td", None)]


def test_a_column_without_a_name_is_named_by_its_place(spark, put):
    source = put("events.csv", ",user,item\n0,u1,a\n1,u2,b\n")
    assert own_columns(read_source(spark, source, "events")) == ["_c0", "user", "item"]
    assert rows_of(spark, source) == [("0", "u1", "a", None), ("1", "u2", "b", None)]


def test_json_lines_come_as_text_with_every_digit_and_the_broken_ones_whole(spark, put):
    lines = ['{"user": 12345678901234567890, "item": "a"}', '{"item": "ü", "extra": 1.50}', '{"user": "u3", "it', "",
             "no JSON", "5", '{"user": null, "item": true}']  # fmt: skip
    assert rows_of(spark, put("events.jsonl", "\n".join(lines))) == [
        (None, "a", "12345678901234567890", None),
        ("1.50", "ü", None, None),
        (None, None, None, '{"user": "u3", "it'),
        (None, None, None, "no JSON"),
        (None, None, None, "5"),
        (None, "true", None, None),
    ]


@pytest.mark.parametrize("kind", ["parquet", "delta"])
def test_tables_keep_their_types(spark, tmp_path, kind):
    rows = spark.sql("SELECT 9007199254740993 AS user, 'a' AS item, TIMESTAMP '2020-03-01 12:00:00' AS time")
    rows.write.format(kind).save(str(tmp_path / "in"))
    source = SourceConfig(format=kind, path=str(tmp_path / "in"), options={})
    read = read_source(spark, source, "events")
    types = [("user", "bigint"), ("item", "string"), ("time", "timestamp")]
    assert [each for each in read.dtypes if each[0] in own_columns(read)] == types
    (found,) = read.withColumn("time", F.col("time").cast("string")).collect()
    assert (found.user, found.item, found.time, found[MALFORMED]) == (
        9007199254740993,
        "a",
        "2020-03-01 12:00:00",
        None,
    )
    assert count_rows(spark, source, "events") == 1


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_folder_partitioned_by_a_column_gives_that_column_too(spark, put, kind):
    """As Spark and Hive write them: in/day=monday/part.csv."""
    texts = {"csv": "user,item\n{},a\n", "jsonl": '{{"item": "a", "user": "{}"}}\n'}
    put(f"in/day=monday/1.{kind}", texts[kind].format("u1"))
    source = put(f"in/day=tuesday/1.{kind}", texts[kind].format("u2"), path="in")
    rows = read_source(spark, source, "events").select("day", "user", "item", MALFORMED)
    assert sorted(map(tuple, rows.collect())) == [("monday", "u1", "a", None), ("tuesday", "u2", "a", None)]


def test_a_folder_that_names_a_column_of_the_file_again_is_refused(spark, put):
    source = put("in/user=u1/1.csv", "user,item\nu2,a\n", path="in")
    with pytest.raises(RecsysError, match="user more than once in"):
        read_source(spark, source, "events")


# --- errors of a source ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet", "delta"])
def test_a_missing_path_is_told_with_its_place_in_the_configuration(spark, tmp_path, kind):
    source = SourceConfig(format=kind, path=str(tmp_path / "nothing"), options={})
    (message,) = told(read_source, spark, source, "items")
    wanted = f"wanted a {kind} file, folder or glob that can be read; found {tmp_path}/nothing. Spark says: "
    assert message.startswith(f"configuration, items.source.path: {wanted}")
    assert "nothing" in message.partition("Spark says: ")[2] and "\n" not in message


@pytest.mark.parametrize(
    ("name", "text"), [("a.csv", ""), ("a.csv", "user,item\n"), ("a.jsonl", ""), ("a.jsonl", "\n")]
)
def test_a_source_without_rows_is_an_error(spark, put, name, text):
    source = put(name, text)
    assert told(read_source, spark, source, "events") == [
        f"configuration, events.source.path: wanted at least one row; found none in {source.path}. "
        "Look whether the delivery is complete."
    ]


def test_lines_of_which_none_is_json_are_an_error(spark, put):
    source = put("a.jsonl", "user,item\nu1,a\n")
    assert told(read_source, spark, source, "events") == [
        f"configuration, events.source.path: wanted a JSON object on each line; found not one in {source.path}. "
        "Write each row on a line of its own, without a list around them. Text that is not UTF-8 needs its name in "
        "source.options, as {encoding: iso-8859-1}."
    ]


def test_a_header_that_names_a_column_twice_is_an_error(spark, put):
    source = put("a.csv", "user,Item,item,user\nu,i,i,u\n")
    assert told(read_source, spark, source, "events") == [
        "configuration, events.source.path: wanted a header that names each column once, in small or capital "
        f"letters; found Item, item, user more than once in {source.path}. Rename the columns in the source."
    ]


def test_a_header_that_differs_between_files_is_an_error_and_no_mixed_up_columns(spark, put):
    put("in/a.csv", "user,item\nu1,a\nu2,b\n")
    source = put("in/b.csv", "item,user\na,u3\n", path="in")
    with pytest.raises(Exception, match="CSV header does not conform to the schema"):
        read_source(spark, source, "events").collect()


def test_a_damaged_file_and_nanoseconds_say_what_is_wrong(spark, put, tmp_path):
    whole = gzip.compress(json.dumps({"user": "u1"}).encode() * 999)
    put("a.jsonl", whole[:-20])
    (tmp_path / "a.jsonl").rename(tmp_path / "a.jsonl.gz")
    source = SourceConfig(format="jsonl", path=str(tmp_path / "a.jsonl.gz"), options={})
    (message,) = told(count_rows, spark, source, "events")
    assert message.startswith("configuration, events.source.path: wanted a jsonl file, folder or glob that can be read")

    table = pyarrow.table({"time": pyarrow.array([1], pyarrow.timestamp("ns", "UTC"))})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet", version="2.6")
    source = SourceConfig(format="parquet", path=str(tmp_path / "a.parquet"), options={})
    (message,) = told(read_source, spark, source, "events")
    assert "pandas wrote nanoseconds: write them with coerce_timestamps='us'. Spark says: " in message


# --- the mapping and the pattern -------------------------------------------------------------------------------------


def test_every_fault_of_the_mapping_is_told_with_the_nearest_column(spark):
    rows = spark.createDataFrame([], "User_ID string, item double, time string, event decimal(20,0), _recsys_x int")
    require_columns(rows, {"User_ID": "user_id", "event": "event_id", "time": "ts"}, "events")
    columns = {"user_id": "user_id", "item": "item_id", "tmie": "ts", "no such thing": "value"}
    found = "columns User_ID, item, time, event"
    assert told(require_columns, rows, columns, "events") == [
        f"configuration, events.columns: wanted source column 'user_id'; found {found}. Did you mean 'User_ID'?",
        f"configuration, events.columns: wanted source column 'tmie'; found {found}. Did you mean 'time'?",
        f"configuration, events.columns: wanted source column 'no such thing'; found {found}. "
        "Known: User_ID, event, item, time.",
        "configuration, events.columns, source column 'item': wanted an id: a string or an integer; found double. "
        "Write the ids as strings or 64-bit integers in the source: a rounded id is another id.",
    ]


def test_only_exact_types_are_ids(spark):
    exact = "a string, b tinyint, c smallint, d int, e bigint, f decimal(38,0)"
    rounded = "g float, h double, i decimal(10,2), j boolean, k timestamp, l date, m array<string>, n struct<x:int>"
    rows = spark.createDataFrame([], f"{exact}, {rounded}")
    refused = [message for name in rows.columns for message in _refusals(rows, name)]
    assert [message.partition("source column '")[2][0] for message in refused] == list("ghijklmn")


def _refusals(rows, name):
    try:
        require_columns(rows, {name: "event_id"}, "events")
    except RecsysError as error:
        return [str(error)]
    return []


def test_patterns_of_spark_and_epochs_pass(spark):
    for pattern in ("yyyy-MM-dd HH:mm:ss", "yyyy-MM-dd'T'HH:mm:ss.SSSXXX", "d/M/yy h:mm a", "epoch_seconds",
                    "epoch_millis"):  # fmt: skip
        require_timestamp_format(spark, pattern, "events")


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("YYYY-MM-dd", "Years are y, not Y (the year of a week). Write for example"),
        ("yyyy-MM-dd 'at", "Write for example yyyy-MM-dd HH:mm:ss. Spark says: "),
        ("yyyy-MM-dd QQQQQQ", "Write for example yyyy-MM-dd HH:mm:ss. Spark says: "),
        ("yyyy-bb-dd", "Write for example yyyy-MM-dd HH:mm:ss. Spark says: "),
    ],
)
def test_another_pattern_is_refused_before_any_row_is_read(spark, pattern, hint):
    (message,) = told(require_timestamp_format, spark, pattern, "items")
    wanted = "a datetime pattern of Spark, epoch_seconds or epoch_millis"
    assert message.startswith(f"configuration, items.timestamp.format: wanted {wanted}; found {pattern}. {hint}")


# --- the state of the files ------------------------------------------------------------------------------------------


def test_the_state_of_the_files_changes_with_a_file_and_names_each(spark, put, tmp_path):
    put("in/b.csv", "b")
    put("in/below/a.csv", "aa")
    put("out.csv", "c")
    before = list_files(spark, str(tmp_path / "in"))
    assert [line.rsplit("/in/", 1)[1].rsplit(", ", 1)[0] for line in before] == ["b.csv, 1", "below/a.csv, 2"]
    assert list_files(spark, str(tmp_path / "in")) == before == list_files(spark, str(tmp_path / "i*"))
    put("in/b.csv", "bb")
    assert [old == new for old, new in zip(before, list_files(spark, str(tmp_path / "in")), strict=True)] == [
        False, True,
    ]  # fmt: skip
    assert list_files(spark, str(tmp_path / "nothing")) == []


def test_a_place_that_spark_cannot_list_is_told(spark):
    assert told(list_files, spark, "nowhere://bucket/events.csv") == [
        "source nowhere://bucket/events.csv: wanted a place that Spark can list; found No FileSystem for scheme "
        '"nowhere". Look at the path, at the rights on it, and whether spark-submit brings the connector of its scheme.'
    ]
