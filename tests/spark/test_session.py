"""The session every job finds: Delta, UTC, and a plain word when Delta is missing."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys_spark.errors import RecsysError
from recsys_spark.tables.session import ARROW_BATCH_BYTES, build_session

pytestmark = pytest.mark.spark


LOSES = "spark.sql.files.ignoreCorruptFiles"


def test_the_session_is_in_utc_writes_delta_and_no_deletion_vectors(spark):
    assert spark.conf.get("spark.sql.session.timeZone") == "UTC"
    assert spark.conf.get("spark.sql.catalog.spark_catalog") == "org.apache.spark.sql.delta.catalog.DeltaCatalog"
    assert "io.delta.sql.DeltaSparkSessionExtension" in spark.conf.get("spark.sql.extensions").split(",")
    assert spark.conf.get("spark.databricks.delta.properties.defaults.enableDeletionVectors") == "false"


def test_lists_are_written_without_dictionaries_and_other_columns_with_them(spark, tmp_path):
    rows = spark.range(1000, numPartitions=1).selectExpr(
        "array(int(id % 3)) AS items", "array(double(id % 3)) AS scores", "array(int(id % 3)) AS others"
    )
    rows.write.format("delta").save(str(tmp_path / "t"))
    [file] = (tmp_path / "t").glob("*.parquet")
    group = pq.ParquetFile(file).metadata.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    has_dictionary = {column.path_in_schema.split(".")[0]: column.has_dictionary_page for column in columns}
    assert has_dictionary == {"items": False, "scores": False, "others": True}
    assert {column.compression for column in columns} == {"ZSTD"}


def test_python_workers_are_handed_no_more_than_the_limit_at_a_time(spark):
    def measure(batches):
        for batch in batches:
            yield pa.RecordBatch.from_pydict({"num_bytes": [batch.nbytes]})

    wide = spark.range(0, 100, 1, numPartitions=1).selectExpr("array_repeat(id, 100000) AS numbers")
    found = [row.num_bytes for row in wide.mapInArrow(measure, "num_bytes long").collect()]
    assert sum(found) > 4 * ARROW_BATCH_BYTES
    assert max(found) < ARROW_BATCH_BYTES + 1_000_000


def test_a_session_that_runs_already_takes_the_settings_as_spark_writes_them(spark):
    again = build_session("again", {"spark.recsys.is_on": True, "spark.recsys.size": 3, "spark.recsys.word": "Yes"})
    found = [again.conf.get(f"spark.recsys.{name}") for name in ("is_on", "size", "word")]
    for name in ("is_on", "size", "word"):
        spark.conf.unset(f"spark.recsys.{name}")
    assert found == ["true", "3", "Yes"]
    assert again.sparkContext is spark.sparkContext


def test_settings_that_the_tables_depend_on_cannot_be_changed_and_all_are_told(spark):
    """Text without a zone and `to_utc_timestamp` mean the session's zone: another one shifts every event."""
    vectors = "spark.databricks.delta.properties.defaults.enableDeletionVectors"
    with pytest.raises(RecsysError) as told:
        build_session(
            "again", {"spark.sql.session.timeZone": "Europe/Berlin", LOSES: True, vectors: True, "spark.x": 1}
        )
    assert [(problem.where, problem.found) for problem in told.value.problems] == [
        ("configuration, spark.spark.sql.session.timeZone", "'Europe/Berlin'"),
        (f"configuration, spark.{LOSES}", "'true'"),
        (f"configuration, spark.{vectors}", "'true'"),
    ]
    assert spark.conf.get("spark.sql.session.timeZone") == "UTC"


def test_further_extensions_are_no_other_value_of_deltas(spark):
    again = build_session("again", {"spark.sql.extensions": "org.shop.Extension"})  # a running session keeps its own
    assert again.conf.get("spark.sql.extensions") == "io.delta.sql.DeltaSparkSessionExtension"


def test_a_setting_said_again_as_it_is_does_no_harm(spark):
    assert build_session("again", {"spark.sql.session.timeZone": "UTC"}).sparkContext is spark.sparkContext


CONTAINER = """
    import json, os, sys
    from pathlib import Path
    from delta.tables import DeltaTable
    from recsys_spark.runner import list_jars
    from recsys_spark.tables.session import build_session

    jars = list_jars(os.environ.get("RECSYS_DELTA_JARS", ""))
    spark = build_session("container", {"spark.master": "local[1]"}, delta_jars=jars)
    pid = spark.sparkContext._jvm.java.lang.ProcessHandle.current().pid()
    own = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    sockets = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").open()]
    listening = [of[1].split(":")[0] for of in sockets if of[3] == "0A" and f"socket:[{of[9]}]" in own]
    rows = spark.read.option("header", "true").csv(sys.argv[1] + "/*.csv").collect()
    table = sys.argv[1] + "/a table"
    properties = {"delta.enableDeletionVectors": "true", "delta.columnMapping.mode": "name"}
    spark.range(9).coalesce(1).write.format("delta").options(**properties).save(table)
    DeltaTable.forPath(spark, table).delete("id % 2 = 0")
    live = sorted(row.id for row in spark.read.format("delta").load(table).where("id < 6").collect())
    print(json.dumps({"listening": listening, "rows": [row.name for row in rows], "live": live}))
    spark.stop()
"""


def test_a_session_in_a_bare_container_finds_every_file_and_listens_to_its_own_machine_only(tmp_path):
    """Under the locale C, without SPARK_LOCAL_IP, with Spark's page; and rows that a deletion vector took are not
    worth a word."""
    place = tmp_path / "données été" / "événements mai.csv"
    place.parent.mkdir()
    place.write_text("name\nZoë\n", encoding="utf-8")
    languages = ("LANG", "LC_ALL", "LC_CTYPE", "SPARK_LOCAL_IP")
    environment = {name: value for name, value in os.environ.items() if name not in languages}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CONTAINER), str(place.parent)],
        env={**environment, "LC_ALL": "C", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["rows"], found["live"]) == (["Zoë"], [1, 3, 5])
    assert "ERROR" not in done.stderr
    # 127.0.0.1, also as Java writes it in IPv6; little-endian
    assert len(found["listening"]) >= 4
    assert set(found["listening"]) <= {"0100007F", "0000000000000000FFFF00000100007F"}


def test_a_source_may_be_in_any_charset_that_java_knows(spark, tmp_path):
    (tmp_path / "prices.csv").write_bytes("item,price\nÄpfel,5 €\n".encode("windows-1252"))
    rows = spark.read.options(header="true", encoding="windows-1252").csv(str(tmp_path / "prices.csv"))
    assert [tuple(row) for row in rows.collect()] == [("Äpfel", "5 €")]


def test_a_spark_without_delta_names_the_flag_to_add():
    code = (
        "from pyspark.sql import SparkSession; from recsys_spark.tables.session import build_session\n"
        "SparkSession.builder.master('local[1]').config('spark.ui.enabled', False).getOrCreate()\n"
        "build_session('late', {})"
    )
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "SPARK_LOCAL_IP": "127.0.0.1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stderr.strip().splitlines()[-1] == (
        "recsys_spark.errors.RecsysError: Spark's class path: wanted Delta Lake "
        "(io.delta.sql.DeltaSparkSessionExtension); found no such class. "
        "Add --packages io.delta:delta-spark_2.13:4.0.1 (or --jars with its jars) to spark-submit."
    )
