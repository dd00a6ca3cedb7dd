"""Files that are gone, logs that are damaged, disks that are full, workers that are killed: an error with the way out,
or a stage that makes its rows anew."""

import importlib
import os
import shutil
import signal
import time
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.errors import PySparkException
from pyspark.sql import functions as F

from recsys_spark.errors import RecsysError, problem
from recsys_spark.tables.catalog import BLENDS, ITEM_INDEX, RUNS
from recsys_spark.tables.failures import explain_bad_input, explain_failures
from recsys_spark.tables.store import Store
from tests.spark.test_runner import FIRST, home, items, world  # noqa: F401  # the fixtures

pytestmark = pytest.mark.spark


def data_files(store, table):
    return sorted(Path(store.path(table)).rglob("part-*.parquet"))


def commits(store, table):
    return sorted((Path(store.path(table)) / "_delta_log").glob("*.json"))


def refusal(work):
    with pytest.raises(RecsysError) as raised:
        work()
    (each,) = raised.value.problems
    return each


def write_over(file, content):
    """As a disk or another program would: Hadoop's checksum of the file is as it was, or is gone with it."""
    file.write_bytes(content)
    file.with_name(f".{file.name}.crc").unlink(missing_ok=True)


# --- what a stage wrote itself ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_cut", [False, True], ids=["deleted", "cut short"])
def test_a_stage_whose_result_lost_a_file_runs_again_and_says_so(world, is_cut):  # noqa: F811
    (file,) = data_files(world.store, BLENDS)
    write_over(file, file.read_bytes()[:-9]) if is_cut else file.unlink()
    outcome = world.run()
    assert not outcome.skipped and world.blends() == [FIRST]
    assert outcome.record["notes"] == [
        f"BLENDS: 1 of its files gone or damaged (run_id=main/{file.name}): made anew", "3 items",
    ]  # fmt: skip
    assert world.run().skipped


def test_files_of_older_versions_and_of_other_runs_may_be_gone(world):  # noqa: F811
    (old,) = data_files(world.store, BLENDS)
    world.run(force=True)
    old.unlink()
    assert world.run().skipped
    world.run("run.id=other")
    assert not world.run().skipped, "another job wrote the table"
    (other,) = (Path(world.store.path(BLENDS)) / "run_id=other").glob("*.parquet")
    other.unlink()
    assert world.run().skipped


def test_a_slice_that_was_merged_is_looked_at_back_to_its_last_whole_write(spark, world):  # noqa: F811
    merge = {"run": importlib.import_module("jobs.tiny").merge_blends}
    world.run(**merge, force=True)
    first, *_ = [file for file in data_files(world.store, BLENDS) if file.stat().st_mtime_ns == newest(world)]
    world.store.append(ITEM_INDEX, items(spark, "d", start=3))
    assert world.run(**merge).record["notes"] == ["1 embedded, 3 kept, 0 removed"]
    assert world.run(**merge).skipped
    first.unlink()
    notes = world.run(**merge).record["notes"]
    assert notes[0].startswith(f"BLENDS: 1 of its files gone or damaged (run_id=main/{first.name})")
    assert notes[1] == "4 embedded, 0 kept, 0 removed"
    assert [row[1] for row in world.blends()] == [0.0, 1.0, 2.0, 3.0]


def newest(world):  # noqa: F811
    return max(file.stat().st_mtime_ns for file in data_files(world.store, BLENDS))


# --- what it reads ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [None, b"no Parquet at all"], ids=["deleted", "overwritten"])
def test_an_input_with_a_damaged_file_names_the_table_the_file_and_the_way_out(world, content):  # noqa: F811
    file = data_files(world.store, ITEM_INDEX)[-1]
    write_over(file, content or b"")
    if content is None:
        file.unlink()
    told = refusal(lambda: world.run(force=True))
    assert told.where == "table ITEM_INDEX" and file.name in told.found and "\n" not in str(told)
    assert told.do == (
        f"Restore the file from a copy, or remove {world.store.path(ITEM_INDEX)} whole and run jobs/ingest_items.py "
        "again: the stages that depend on it then run once more."
    )


def test_a_table_that_its_job_can_write_anew_names_the_job(world):  # noqa: F811
    data_files(world.store, BLENDS)[0].unlink()
    with pytest.raises(RecsysError) as raised, explain_failures("job show", world.store.root):
        world.blends()
    (told,) = raised.value.problems
    assert (told.where, told.do) == (
        "table BLENDS",
        "Restore the file from a copy, or run jobs/choose_blend.py with --force and the configuration as it was: "
        "it writes its rows anew.",
    )


@pytest.mark.parametrize("how", ["gone", "empty", "garbage"])
@pytest.mark.parametrize("table", [ITEM_INDEX, RUNS], ids=lambda table: table.name)
def test_a_damaged_log_names_the_table_and_the_way_out_and_no_row_is_passed_over(spark, world, how, table):  # noqa: F811
    world.store.append(ITEM_INDEX, items(spark, "d", start=3))
    world.run()
    damaged = commits(world.store, table)[0]
    damaged.unlink() if how == "gone" else write_over(damaged, b"" if how == "empty" else b"{no json")
    shutil.copytree(world.store.root, f"{world.store.root} of another session")  # Delta remembers the logs it read
    world.store = Store(spark, f"{world.store.root} of another session")
    again = "" if table is RUNS else " and run jobs/ingest_items.py again"
    told = refusal(lambda: world.run(force=table is ITEM_INDEX))  # a stage that is skipped reads no input
    path = world.store.path(table)
    assert (told.where, told.wanted) == (f"table {table.name}", f"a Delta log that can be read in {path}/_delta_log")
    assert told.do == (
        f"Restore {path} from a copy, or remove {path} whole{again}: the stages that depend on it then run once more."
    )


# --- the machine ------------------------------------------------------------------------------------------------------


def kill_itself(batches):
    for _ in batches:
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
        yield pa.RecordBatch.from_pydict({"id": [1]})


def fill_the_disk(batches):
    for batch in batches:
        with Path("/dev/full").open("w", buffering=1) as disk:
            disk.write("a line\n")
        yield batch


def raise_a_fault(batches):
    for batch in batches:
        yield batch.slice(0, 1 // 0)


def raise_a_problem(batches):
    for _ in batches:
        raise problem(
            "model /m", wanted="its files as they were saved", found="another checksum. Twice", do="Train it."
        )
        yield


def failing(spark, work):
    """A run of a worker that fails, as a stage sees it."""
    with explain_failures("stage tiny", "/warehouse"):
        spark.range(3).mapInArrow(work, "id bigint").collect()


def test_a_killed_worker_is_told_with_what_kills_workers(spark):
    told = refusal(lambda: failing(spark, kill_itself))
    assert (told.where, told.wanted) == ("stage tiny", "workers that live until their task is done")
    assert "Python worker exited unexpectedly" in told.found and "score.worker_mib" in told.do


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
def test_a_full_disk_is_told_whoever_met_it(spark):
    def on_the_driver():
        with explain_bad_input("stage tiny"):
            fill_all = fill_the_disk([None])
            list(fill_all)

    for work in (on_the_driver, lambda: failing(spark, fill_the_disk)):
        told = refusal(work)
        assert (told.where, told.wanted) == ("stage tiny", "room on every disk that is written")
        assert "No space left on device" in told.found and "spark.local.dir" in told.do


def test_an_error_of_ours_in_a_worker_is_told_as_it_was_raised(spark):
    told = refusal(lambda: failing(spark, raise_a_problem))
    assert str(told) == "model /m: wanted its files as they were saved; found another checksum. Twice. Train it."


def test_a_fault_of_python_code_in_a_worker_keeps_its_traceback(spark):
    with pytest.raises(PySparkException, match=r"in raise_a_fault[\s\S]*ZeroDivisionError"):
        failing(spark, raise_a_fault)


def test_a_failure_of_no_known_kind_is_told_in_one_line_with_its_trace_in_a_file(spark):
    def work():
        with explain_failures("stage tiny", "/warehouse"):
            spark.range(1).select(F.raise_error(F.lit("a new kind"))).collect()

    told = refusal(work)
    assert (told.where, told.found) == ("stage tiny", "[USER_RAISED_EXCEPTION] a new kind SQLSTATE: P0001")
    start, end = "That is no fault of the input that the platform knows: the whole trace is in ", "."
    assert told.do.startswith(start) and told.do.endswith(end)
    trace = Path(told.do.removeprefix(start).removesuffix(end))
    assert "test_damage.py" in trace.read_text() and "\tat org.apache.spark" in trace.read_text()
    trace.unlink()
