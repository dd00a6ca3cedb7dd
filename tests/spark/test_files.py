"""Every file below a path is read, by the names and in the letters it was written with, or the run says why not."""

import gzip
import os
import subprocess
import sys
import zipfile

import pytest
from pyspark.sql import functions as F

from recsys_spark.config import SourceConfig
from recsys_spark.errors import RecsysError
from recsys_spark.tables.files import list_files
from recsys_spark.tables.formats import INNER_LINES, MALFORMED, SWALLOWED, own_columns
from recsys_spark.tables.source import count_rows, read_source, require_columns

pytestmark = pytest.mark.spark

HEAD = "user,item\n"


def write(file, content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())


def source_of(path, kind="csv", **options):
    return SourceConfig(format=kind, path=str(path), options=options)


def users_of(spark, source):
    rows = read_source(spark, source, "events")
    found = sorted(row.user for row in rows.collect())
    assert len(found) == count_rows(spark, source, "events"), "counted without parsing, and parsed"
    return found


def told(act, *arguments):
    with pytest.raises(RecsysError) as raised:
        act(*arguments)
    return "\n".join(str(each) for each in raised.value.problems)


# --- none is passed over ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        ["2025-09.csv", "2025/10.csv"],
        ["2025/10/a.csv", "2025/10/deep/er/b.csv", "top.csv"],
        ["day=1/a.csv", "b.csv"],
        ["day=1/a.csv", "day=2/hour=3/b.csv", "plain/c.csv"],
    ],
)
def test_files_beside_and_below_folders_are_all_read(spark, tmp_path, names):
    for number, name in enumerate(names):
        write(tmp_path / "in" / name, f"{HEAD}u{number},a\n")
    assert users_of(spark, source_of(tmp_path / "in")) == [f"u{number}" for number in range(len(names))]


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("hidden", ["_b", ".c", "_half/d", "e.{kind}._COPYING_", "_started_orders"])
def test_files_that_spark_hides_are_named_and_stop_the_run(spark, tmp_path, kind, hidden):
    for name in (f"a.{kind}", hidden.format(kind=kind) if "{kind}" in hidden else f"{hidden}.{kind}"):
        text = {"csv": f"{HEAD}u1,a\n", "jsonl": '{"user": "u1", "item": "a"}\n'}
        if kind == "parquet":
            spark.createDataFrame([("u1", "a")], "user string, item string").coalesce(1).write.parquet(
                str(tmp_path / "p")
            )
            (part,) = (tmp_path / "p").glob("*.parquet")
            write(tmp_path / "in" / name, part.read_bytes())
            part.rename(part.with_suffix(".old"))
            for rest in (tmp_path / "p").iterdir():
                rest.unlink()
            (tmp_path / "p").rmdir()
        else:
            write(tmp_path / "in" / name, text[kind])
    message = told(read_source, spark, source_of(tmp_path / "in", kind), "events")
    assert "wanted every one of its 2 files to be read; found 1 that Spark passes over: file:" in message
    assert name in message and "rename or remove these files" in message


def test_what_writers_leave_beside_the_rows_and_what_options_leave_out_is_no_loss(spark, tmp_path):
    for name in ("_SUCCESS", "_committed_12", "_committed_vacuum12", "_started_12", ".a.csv.crc", ".DS_Store"):
        write(tmp_path / "in" / name, "x")
    write(tmp_path / "in" / "_empty.csv", "")
    write(tmp_path / "in" / "a.csv", f"{HEAD}u1,a\n")
    assert users_of(spark, source_of(tmp_path / "in")) == ["u1"]
    write(tmp_path / "in" / "_b.csv", f"{HEAD}u2,a\n")
    assert users_of(spark, source_of(tmp_path / "in", pathGlobFilter="[!_]*.csv")) == ["u1"]
    assert "_b.csv" in told(read_source, spark, source_of(tmp_path / "in", pathGlobFilter="*.csv"), "events")
    assert "_b.csv" in told(
        read_source, spark, source_of(tmp_path / "in", modifiedAfter="2000-01-01T00:00:00"), "events"
    )


# --- folders that are columns ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_ids_in_the_names_of_folders_stay_as_they_are_written(spark, tmp_path, kind):
    rows = spark.createDataFrame(
        [("u1", "00012"), ("u2", "1e3"), ("u3", "a b"), ("u4", "x+y%20/é=1"), ("u5", None), ("u6", "2020-01-01")],
        "user string, sku string",
    )
    written = rows.write.option("header", "true").partitionBy("sku").format({"jsonl": "json"}.get(kind, kind))
    written.save(str(tmp_path / "in"))
    read = read_source(spark, source_of(tmp_path / "in", kind), "events")
    assert own_columns(read) == ["user", "sku"]
    assert sorted(map(tuple, read.select("user", "sku").collect())) == sorted(map(tuple, rows.collect()))


def test_folders_of_a_glob_and_of_a_relative_path_are_columns_too(spark, tmp_path, monkeypatch):
    for day in ("01", "02"):
        write(tmp_path / f"in/day={day}/part/a.csv", f"{HEAD}u{day},a\n")
    monkeypatch.chdir(tmp_path)
    for path in (f"{tmp_path}/in/day=*", f"{tmp_path}/in/*/part/*.csv", f"{tmp_path}/./in"):
        rows = read_source(spark, source_of(path), "events").select("user", "day").collect()
        assert sorted(map(tuple, rows)) == [("u01", "01"), ("u02", "02")], path


# --- names of paths and columns --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["données été/événements mai.csv", "a[1].csv", "{a,b}.csv", "odd * and ?/x.csv", "100%.csv", "a+b #1.csv"]
)
def test_a_path_may_have_any_letters(spark, tmp_path, name):
    write(tmp_path / name, f"{HEAD}u1,a\n")
    source = source_of(tmp_path / name)
    assert users_of(spark, source) == ["u1"]
    assert [line.rpartition("/")[2].split(", ")[0] for line in list_files(spark, source.path)] == [name.split("/")[-1]]
    assert users_of(spark, source_of((tmp_path / name).parent)) == ["u1"]


def test_a_jvm_that_cannot_say_the_name_of_a_path_says_so(tmp_path):
    write(tmp_path / "été.csv", f"{HEAD}u1,a\n")
    write(tmp_path / "plain.csv", f"{HEAD}u1,a\n")
    code = """if True:
        import sys
        from pyspark.sql import SparkSession
        from recsys_spark.errors import RecsysError
        from recsys_spark.tables.files import find_files
        spark = SparkSession.builder.master("local[1]").getOrCreate()
        for path in sys.argv[1:]:
            try:
                find_files(spark, path)
            except RecsysError as error:
                print(ascii(str(error)))
    """
    ended = subprocess.run(
        [sys.executable, "-c", code, *(str(tmp_path / path) for path in ("été.csv", "", "*.csv"))],
        env={**os.environ, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    told = ended.stdout.splitlines()
    assert len(told) == 3, ended.stderr
    for message in told:
        assert "found ANSI_X3.4-1968, which has no letters for" in message
        assert "export LC_ALL=C.UTF-8 before spark-submit" in message


def test_a_glob_still_is_one(spark, tmp_path):
    for name in ("a1.csv", "a2.csv", "b1.csv"):
        write(tmp_path / name, f"{HEAD}{name[:2]},a\n")
    assert users_of(spark, source_of(tmp_path / "a[0-9].csv")) == ["a1", "a2"]
    assert users_of(spark, source_of(tmp_path / "{a1,b1}.csv")) == ["a1", "b1"]


def test_a_column_may_have_any_name(spark, tmp_path):
    write(tmp_path / "a.csv", 'user,odd `name`,a.b,_metadata,"x""y",sp ace\nu1,i1,d,m,q,s\n')
    write(tmp_path / "a.jsonl", '{"_metadata": "m", "user": "u1", "odd `name`": "i1", "_corrupt_record": "k"}\n')
    for name, own in (
        ("a.csv", ["user", "odd `name`", "a.b", "_metadata", 'x"y', "sp ace"]),
        ("a.jsonl", ["_corrupt_record", "_metadata", "odd `name`", "user"]),
    ):
        rows = read_source(spark, source_of(tmp_path / name, name.split(".")[1]), "events")
        assert own_columns(rows) == own
        require_columns(rows, dict.fromkeys(own, "item_id"), "events")
        (row,) = rows.collect()
        assert (row["user"], row["odd `name`"], row["_metadata"], row[MALFORMED]) == ("u1", "i1", "m", None)


def test_a_field_inside_of_a_struct_may_be_mapped(spark, tmp_path):
    write(tmp_path / "a.jsonl", '{"user": {"id": "007", "name": "x"}, "sku": "a", "a.b": {"c.d": "e"}}\n')
    rows = read_source(spark, source_of(tmp_path / "a.jsonl", "jsonl"), "events")
    require_columns(rows, {"user.id": "user_id", "a.b.c.d": "item_id"}, "events")
    message = told(require_columns, rows, {"user.ide": "user_id", "user": "item_id"}, "events")
    assert "Did you mean 'user.id'?" in message and "wanted an id: a string or an integer; found struct<" in message


# --- what the bytes are ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "found", "do"),
    [
        (gzip.compress(b"user,item\nu1,a\n", mtime=0), "gzip data", "rename it to end with .gz"),
        (b"BZh91AY&SY", "bzip2 data", "rename it to end with .bz2"),
        (b"PAR1\x15\x04", "a Parquet file", "Set events.source.format: parquet"),
        ("user,item\nu1,a\n".encode("utf-16"), "a text in UTF-16", "options: {encoding: UTF-16, multiLine: true}"),
        ("user,item\nu1,a\n".encode("utf-16-le"), "bytes of value 0", "options: {encoding: UTF-16, multiLine: true}"),
        ("zip", "a zip archive or an Excel file", "Unpack it"),
    ],
)
def test_a_file_that_is_no_text_is_told_with_what_it_is_and_the_way_out(spark, tmp_path, content, found, do):
    if content == "zip":
        with zipfile.ZipFile(tmp_path / "a.csv", "w") as archive:
            archive.writestr("a.csv", "user,item\nu1,a\n")
    else:
        write(tmp_path / "a.csv", content)
    message = told(read_source, spark, source_of(tmp_path / "a.csv"), "events")
    assert f"found {found}" in message and do in message
    assert message.isprintable()


@pytest.mark.parametrize("encoding", ["UTF-16", "UTF-16LE", "windows-1252", "iso-8859-15", "ibm850"])
def test_charsets_that_java_has_are_options(spark, tmp_path, encoding):
    write(tmp_path / "a.csv", "user,item\nMüller,a\nZoë,b\n".encode(encoding))
    options = {"multiLine": "true"} if encoding.startswith("UTF-16") else {}
    lines = '{"user": "Zoë", "item": "b"}\r\n\r\n{"user": "Müller"}\n'.encode(encoding)
    write(tmp_path / "a.jsonl", lines)
    jsonl = source_of(tmp_path / "a.jsonl", "jsonl", encoding=encoding)
    if options:
        assert "Save the file as UTF-8" in told(read_source, spark, jsonl, "events")
        bare = source_of(tmp_path / "a.jsonl", "jsonl")
        assert "Save it as UTF-8 (iconv -f UTF-16" in told(read_source, spark, bare, "events")
    else:
        assert users_of(spark, jsonl) == ["Müller", "Zoë"]
    assert users_of(spark, source_of(tmp_path / "a.csv", encoding=encoding, **options)) == ["Müller", "Zoë"]
    if options:
        message = told(read_source, spark, source_of(tmp_path / "a.csv", encoding=encoding), "events")
        assert "wanted multiLine: true beside encoding: UTF-16" in message


@pytest.mark.parametrize(("encoding", "broken"), [("windows-1252", b"\x9d"), ("Shift_JIS", b"\x81\x20")])
def test_a_byte_that_the_charset_does_not_know_stops_no_delivery(spark, tmp_path, encoding, broken):
    write(tmp_path / "a.jsonl", b'{"user": "u1", "item": "a"}\n{"user": "u2", "item": "' + broken + b'"}\n')
    source = source_of(tmp_path / "a.jsonl", "jsonl", encoding=encoding)
    rows = read_source(spark, source, "events").collect()
    assert [(row.user, "\ufffd" in row.item) for row in rows] == [("u1", False), ("u2", True)]
    assert count_rows(spark, source, "events") == 2


def test_an_unknown_charset_is_told(spark, tmp_path):
    write(tmp_path / "a.csv", f"{HEAD}u1,a\n")
    assert "latin-99" in told(read_source, spark, source_of(tmp_path / "a.csv", encoding="latin-99"), "events")


# --- rows inside of fields -------------------------------------------------------------------------------------------


def test_lines_that_an_open_quote_swallows_are_counted(spark, tmp_path):
    lines = [f"{number:05d},Thing {number},Tea,{number}.00" for number in range(60)]
    lines[9], lines[39] = '00009,"27 inch Monitor,Tea,3.00', '00039,Curtain 90" x 90,Coffee,5.00'
    lines[50] = '00050,"Soft, warm,\n5 colours, 3 sizes, one price\nAsk for more",Tea,3.00'
    write(tmp_path / "a.csv", "sku,name,kind,price\n" + "\n".join(lines) + "\n")
    rows = read_source(spark, source_of(tmp_path / "a.csv", multiLine="true"), "items")
    found = {row.sku: row[SWALLOWED] for row in rows.where(F.col(SWALLOWED) > 0).collect()}
    assert found == {"00009": 30}


@pytest.mark.parametrize("sep", [",", "|", ";", "\t"])
def test_two_rows_in_one_are_seen_too_whatever_the_separator(spark, tmp_path, sep):
    lines = ["id,name,kind", "7,Tea,a", '8,"5 inch,a', '9,90" wide,b', '10,"two\nlines, fine\n",b']
    write(tmp_path / "a.csv", "\n".join(lines).replace(",", sep) + "\n")
    rows = read_source(spark, source_of(tmp_path / "a.csv", multiLine="true", sep=sep), "items")
    assert {row.id: row[SWALLOWED] for row in rows.collect()}["8"] == 1
    assert [row[SWALLOWED] for row in rows.where("id IN ('7', '10')").collect()] == [0, 0]


CASES = {
    "the quote opens in the first column": (
        '"Size {n} inch,00009,3.00', 'Curtain 90" x 90,00039,5.00', "Thing {n},{n:05d},{n}.00",
    ),
    "ids of letters": ('anna,"27 inch Monitor,Tea', 'zoe,Curtain 90" x 90,Tea', "{name},Thing {name},Coffee"),
    "ids without a shape": ('a7f,"27 inch Monitor,Tea', 'bb01,Curtain 90" x 90,Tea', "{hex},Thing,Coffee"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("sep", [",", "\\t"])
def test_rows_that_a_quote_swallows_are_seen_whatever_their_ids_look_like(spark, tmp_path, case, sep):
    opening, closing, row = CASES[case]
    words = [f"{first}{second}a" for first in "bcdfgklm" for second in "aeiou"]
    lines = [row.format(n=n, name=words[n % 40], hex=f"{n * 7919:x}") for n in range(60)]
    lines[9], lines[39] = opening.format(n=27), closing
    text = "\n".join(["one,two,three", *lines]) + "\n"
    write(tmp_path / "a.csv", text.replace(",", "\t") if sep == "\\t" else text)
    rows = read_source(spark, source_of(tmp_path / "a.csv", multiLine="true", sep=sep), "items").collect()
    assert len(rows) == 30
    assert [row[SWALLOWED] for row in rows if row[SWALLOWED] or row[INNER_LINES]] == [30]


def test_texts_of_several_lines_are_no_rows(spark, tmp_path):
    texts = (
        "Pieces: 1, 2, 3\nColours: red, blue, green\nSizes: S, M, L\nMade in: Rome, Lyon, Kiel",
        "one\n\n\n\ntwo",
        "1,000 pieces\nor 2,000 pieces",
        '""Best"" of all\nI like it, really, much\nand so will you',
        "Set:\n1,000 pieces\n2,000 stickers\nMade in Lyon",
    )
    lines = ["sku,name,kind", *(f'{n:05d},"{text}",Tea' for n, text in enumerate(texts))]
    write(tmp_path / "a.csv", "\n".join(lines) + "\n")
    rows = read_source(spark, source_of(tmp_path / "a.csv", multiLine="true"), "items").collect()
    assert [(row[SWALLOWED], row[INNER_LINES]) for row in sorted(rows)] == [(0, 3), (0, 4), (0, 1), (0, 2), (0, 3)]


@pytest.mark.parametrize(
    ("opening", "row", "closing"),
    [('"sku0,1', "sku{n},{n}", 'sku30",5'), ('"u0;7', "u{n};{n}", 'u30";8'), ('"Heat,1', "Apollo {n},10{n}", 'Up",2')],
)
def test_rows_of_two_columns_that_a_quote_swallows_are_seen(spark, tmp_path, opening, row, closing):
    lines = ["a;b" if ";" in row else "a,b", opening, *(row.format(n=n) for n in range(1, 30)), closing]
    write(tmp_path / "a.csv", "\n".join(lines) + "\n")
    options = {"multiLine": "true", "sep": ";" if ";" in row else ","}
    (found,) = read_source(spark, source_of(tmp_path / "a.csv", **options), "rules.pinned").collect()
    assert (found[SWALLOWED], found[INNER_LINES]) == (30, 30)


def test_an_empty_file_of_rows_with_several_lines_has_no_rows(spark, tmp_path):
    write(tmp_path / "a.csv", "")
    message = told(read_source, spark, source_of(tmp_path / "a.csv", multiLine="true"), "items")
    assert "wanted" in message and "row" in message


def test_lines_with_more_than_one_json_object_are_named_and_stop_the_run(spark, tmp_path):
    sound = [
        '{"user": "u1", "item": "a"}', '  {"user": "u2"}\t', "{'user': 'u3'}", '{"user": "u4"},', '{"user": "u5"}]',
        '{"user": "u6", "item": "} {"}', '{"user": "u8", "all": [{"a": 1}, {"b": 2}]},',
        '{"user": "u9", "x": "a} b"} ] ', '{"user": "u10", "x": "a} b", "y": {"z": 1} } , ',
        '{"user": "u7", "all": [{"a": 1}, {"b": {"c": 2}}], "x": {"y": 1} }',
    ]  # fmt: skip
    broken = [
        "no JSON } at all", '{"user": "u8", "item": {"a": 1} {', "[", "]", '[{"user": "u8"},', '["x"]', "[12] a log",
    ]  # fmt: skip
    write(tmp_path / "a.jsonl", "\n".join([*sound, "", " \t", *broken]) + "\n")
    source = source_of(tmp_path / "a.jsonl", "jsonl")
    rows = read_source(spark, source, "events").collect()
    assert sorted(int(row.user[1:]) for row in rows if row[MALFORMED] is None) == [*range(1, 11)]
    assert [row[MALFORMED] for row in rows if row[MALFORMED] is not None] == broken
    assert count_rows(spark, source, "events") == len(rows)
    for more in ('{"user": "u9"}{"user": "u10"}', '{"user": "u9"} {"user": "u10"}', '{"user": "u9"}, {"user": "u10"}',
                 '{"user": "u9"} and more', '{"user": {"id": "u9"}}\t["x"]', '{"user": "u9"}, {"user": "u10"},',
                 '[{"user": "u9"}, {"user": "u10"}]', " []", '[{"user": "' + "u" * 300 + '"}]'):  # fmt: skip
        write(tmp_path / "a.jsonl", "\n".join([*sound, more, *broken]) + "\n")
        message = told(read_source, spark, source, "events")
        assert "found 1 lines with more than one, or with a list, as in file:/" in message
        shown = " ".join(more.split())
        assert f"a.jsonl: {shown if len(shown) < 200 else f'{shown[:200]}…'}. Write each" in message


def test_two_columns_without_a_name_are_told_by_their_places(spark, tmp_path):
    write(tmp_path / "a.csv", "user,item,,\nu1,a,,\n")
    message = told(read_source, spark, source_of(tmp_path / "a.csv"), "events")
    assert "found columns 3, 4 without a name" in message and "Name them, or delete those that are empty" in message
