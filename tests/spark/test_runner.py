"""A stage is done again when something it depends on changed, and only then; a failed one leaves no trace."""

import importlib
import json
import os
import runpy
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest

import jobs
from recsys_spark.errors import RecsysError
from recsys_spark.lineage import code_hash
from recsys_spark.records import Records
from recsys_spark.runner import Context, Stage, run_stage
from recsys_spark.tables import hadoop
from recsys_spark.tables.catalog import BLENDS, ITEM_INDEX, MODELS, RUNS
from recsys_spark.tables.files import list_files
from recsys_spark.tables.store import Store
from tests.small_warehouse import config_of

pytestmark = pytest.mark.spark

CODE = '''
from pyspark.sql import functions as F
from recsys_spark.increments import bring_up_to_date, read_standing
from recsys_spark.tables.catalog import BLENDS, ITEM_INDEX
from recsys_spark.transforms.changes import without_equals

KEPT = []

class Started(Exception):
    """The stage was not skipped."""

def start_only(context):
    raise Started

def run(context):
    """BLENDS: the largest number, a setting, and how many items there are."""
    items = context.keep(context.read(ITEM_INDEX))
    KEPT.append(items)
    context.note_count(0, "things that are not worth a word")
    context.note_count(items.count(), "items")
    blend_k = float(context.config.rank.blend_k)
    context.replace(BLENDS, items.agg(
        F.max("item_idx").cast("double").alias("tower_weight"), F.lit(blend_k).alias("score"),
        F.count("*").alias("num_users"),
    ))

def write_no_table(context):
    context.note(f"blend_k is {context.config.rank.blend_k}")

def write_and_fail(context):
    run(context)
    raise OSError("disk full")

def break_the_contract(context):
    rows = context.keep(context.read(ITEM_INDEX))
    KEPT.append(rows)
    context.replace(BLENDS, rows.select(
        F.lit(None).cast("double").alias("tower_weight"), F.lit(0.0).alias("score"),
        F.lit(1).cast("long").alias("num_users"),
    ))

def merge_blends(context):
    """The slice brought up to date row by row, as the stages that embed do."""
    rows = context.read(ITEM_INDEX).selectExpr("item_idx + 0.0d AS tower_weight", "1.0d AS score", "1L AS num_users")
    standing = read_standing(context, BLENDS, run_id="main")
    changed = without_equals(rows, standing, on=["tower_weight"])
    bring_up_to_date(context, BLENDS, changed, wanted=rows, standing=standing, run_id="main")

def ask_for_an_unknown_slice(context):
    context.read_slice(BLENDS, run_id="main", tower_weight="5.0")
'''


@pytest.fixture(scope="module")
def home(spark, tmp_path_factory):
    """A folder with the job `tiny`, a source file and a warehouse of three items in which the job was done once."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "tiny.py").write_text(CODE)
    (folder / "source.csv").write_text("a\n1\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "__path__", [*jobs.__path__, str(folder)])
        importlib.invalidate_caches()
        store = Store(spark, str(folder / "template"))
        store.append(ITEM_INDEX, items(spark, "a", "b", "c"))
        run_stage(stage(folder), spark, config_of(store.root))
        yield folder
    sys.modules.pop("jobs.tiny")


def items(spark, *ids, start=0):
    return spark.createDataFrame([(item, start + place) for place, item in enumerate(ids)], ITEM_INDEX.schema)


def stage(folder, run=None, **changes):
    usual = {
        "name": "tiny", "reads": (ITEM_INDEX,), "writes": (BLENDS,), "sections": ("run.id", "rank.blend_k"),
        "sources": lambda spark, _config: list_files(spark, str(folder / "source.csv")),
    }  # fmt: skip
    return Stage(run=run or importlib.import_module("jobs.tiny").run, **{**usual, **changes})


class World:
    """A copy of the warehouse of `home`, to be changed by one test."""

    def __init__(self, spark, home, folder):
        shutil.copytree(home / "template", folder / "warehouse")
        self.home, self.spark, self.store = home, spark, Store(spark, str(folder / "warehouse"))

    def run(self, *settings, force=False, **changes):
        return run_stage(stage(self.home, **changes), self.spark, config_of(self.store.root, *settings), force=force)

    def is_work(self, *settings):
        """Whether the stage would be done; it stops before it reads or writes."""
        tiny = importlib.import_module("jobs.tiny")
        try:
            return not self.run(*settings, run=tiny.start_only).skipped
        except tiny.Started:
            return True

    def blends(self):
        return sorted(tuple(row) for row in self.store.read(BLENDS).collect())

    def records(self):
        return [row.asDict() for row in self.store.read(RUNS).orderBy("finished_at").collect()]


@pytest.fixture
def world(spark, home, tmp_path):
    return World(spark, home, tmp_path)


@pytest.fixture
def edit(home):
    """Adds to a file of `home` for one test; afterwards it is as before, its time of change too."""
    before = {}

    def add(name, text):
        before[name] = (home / name).read_text(), (home / name).stat()
        (home / name).write_text(before[name][0] + text)

    yield add
    for name, (text, status) in before.items():
        (home / name).write_text(text)
        os.utime(home / name, ns=(status.st_atime_ns, status.st_mtime_ns))


FIRST = ("main", 2.0, 10.0, 3)


# --- done or skipped --------------------------------------------------------------------------------------------------


def test_a_finished_stage_leaves_its_slice_and_one_record_of_what_it_did(world):
    assert world.blends() == [FIRST]
    (record,) = world.records()
    told = {name: record[name] for name in ("run_id", "stage", "inputs", "outputs", "rows_in", "rows_out", "notes")}
    assert told == {
        "run_id": "main", "stage": "tiny", "inputs": {"ITEM_INDEX": 0}, "outputs": {"BLENDS": 0},
        "rows_in": {"ITEM_INDEX": 3}, "rows_out": {"BLENDS": 1}, "notes": ["3 items"],
    }  # fmt: skip
    assert record["table_ids"] == {table.name: world.store.state(table).table_id for table in (ITEM_INDEX, BLENDS)}
    assert json.loads(record["config"]) == {"run.id": "main", "rank.blend_k": 10}
    assert record["code_hash"] == code_hash("jobs.tiny")
    assert record["seconds"] > 0 and record["peak_mib"] > 100


@pytest.mark.parametrize(
    ("setting", "means_more"),
    [("spark.sql.legacy.timeParserPolicy", True), ("spark.sql.caseSensitive", True),
     ("spark.sql.parquet.int96RebaseModeInRead", True), ("spark.sql.autoBroadcastJoinThreshold", False)],
)  # fmt: skip
def test_a_setting_of_spark_that_says_what_a_value_means_is_a_change(world, setting, means_more):
    values = {"timeParserPolicy": "LEGACY", "caseSensitive": "true", "int96RebaseModeInRead": "LEGACY"}
    world.spark.conf.set(setting, values.get(setting.rpartition(".")[2], "1000"))
    try:
        assert world.is_work() == means_more
    finally:
        world.spark.conf.unset(setting)
    assert not world.is_work()


def test_a_page_that_is_gone_is_made_anew(world):
    world.store.write_text("page.html", "whole")
    assert world.run(pages=("page.html",)).skipped
    Path(world.store.root, "page.html").unlink()
    outcome = world.run(pages=("page.html",))
    assert outcome.record["notes"][0] == "page.html: 1 of its files gone or damaged (page.html): made anew"


class FullDisk:
    """A stream that takes a part of what is written."""

    def __init__(self, stream):
        self.stream = stream

    def write(self, content):
        self.stream.write(content[:4])
        raise OSError("No space left on device")

    def close(self):
        self.stream.close()


class FileSystem:
    """Hadoop's, with some of its methods in another way."""

    def __init__(self, file_system, **others):
        self.file_system = file_system
        vars(self).update(others)

    def __getattr__(self, name):
        return getattr(self.file_system, name)


@pytest.fixture
def pages(world, monkeypatch):
    """Puts a method of the file system in the place of another, and looks at the page."""
    opened = hadoop.open_place

    def open_as(**others):
        def open_place(spark, place):
            file_system, path = opened(spark, place)
            return FileSystem(file_system, **{name: partial(made, file_system) for name, made in others.items()}), path

        monkeypatch.setattr(hadoop, "open_place", open_place)
        world.store.write_text("page.html", "new, ü")

    def found():
        """What the page says, if it is there; nothing else of it is, but its checksum."""
        page = Path(world.store.root, "page.html")
        names = {file.name for file in page.parent.glob("*page*")}
        assert names == ({"page.html", ".page.html.crc"} if page.exists() else set())
        return page.read_text() if page.exists() else None

    world.store.write_text("page.html", "old")
    return open_as, found


def test_a_page_that_is_not_written_to_its_end_leaves_the_one_before(world, pages):
    open_as, found = pages
    with pytest.raises(OSError, match="No space left"):
        open_as(create=lambda file_system, path, overwrite: FullDisk(file_system.create(path, overwrite)))
    assert found() == "old"
    with pytest.raises(UnicodeEncodeError):
        world.store.write_text("page.html", "half \ud800")
    assert found() == "old"
    open_as()
    assert found() == "new, ü"


def test_a_page_is_renamed_again_when_another_run_was_faster(pages):
    open_as, found = pages
    refused = iter([True, True])
    open_as(rename=lambda file_system, *paths: not next(refused, False) and file_system.rename(*paths))
    assert found() == "new, ü"


def test_a_page_that_cannot_be_renamed_is_told_and_leaves_no_half(pages):
    open_as, found = pages
    with pytest.raises(RecsysError, match=r"refused to rename it 3 times.*run the job again"):
        open_as(rename=lambda file_system, *paths: False)
    assert found() is None


def test_a_note_shows_no_secret(world, monkeypatch):
    monkeypatch.setenv("SHOP_PASSWORD", "correct horse")
    config_of(world.store.root, "landing=ftp://me:${SHOP_PASSWORD}@host/in")
    context = Context(world.spark, None, world.store, {})
    context.note("written to ftp://me:battery@host/in/a.html, key correct horse")
    assert context.notes == ["written to ftp://me:***@host/in/a.html, key ${SHOP_PASSWORD}"]


def test_nothing_is_done_when_nothing_changed_whatever_happens_to_other_sections(world):
    outcome = world.run("score.top_k=70", "rank.list_size=30")
    assert outcome.skipped
    assert [outcome.record.asDict()] == world.records(), "the summary tells what the last run did"
    assert (world.store.version(BLENDS), world.store.version(RUNS)) == (0, 0)


def test_a_job_run_alone_counts_for_the_pipeline_and_the_other_way_round(world, home):
    alone = runpy.run_path(str(home / "tiny.py"), run_name="__main__")["run"]
    assert alone.__module__ == "__main__"
    assert world.run(run=alone).skipped


def test_force_does_it_again_on_the_versions_it_was_fingerprinted_with(spark, world):
    def run(context):
        world.store.append(ITEM_INDEX, items(spark, "late", start=3))
        importlib.import_module("jobs.tiny").run(context)

    run.__module__ = "jobs.tiny"
    record = world.run(run=run, force=True).record
    assert (record["inputs"], record["outputs"]) == ({"ITEM_INDEX": 0}, {"BLENDS": 1})
    assert world.blends() == [FIRST]


def test_another_version_of_an_input_is_work_again(spark, world):
    world.store.append(ITEM_INDEX, items(spark, "d", start=3))
    outcome = world.run()
    assert not outcome.skipped and outcome.record["inputs"] == {"ITEM_INDEX": 1}
    assert world.blends() == [("main", 3.0, 10.0, 4)], "its own slice was replaced"
    assert not world.is_work()


def test_another_setting_of_its_sections_is_work_again_and_so_is_going_back(world):
    assert not world.run("rank.blend_k=5").skipped
    assert world.blends() == [("main", 2.0, 5.0, 3)]
    assert world.is_work(), "an older record does not count: its result no longer stands"
    assert not world.is_work("rank.blend_k=5")


def test_a_page_beside_the_tables_is_made_again_when_a_setting_goes_back(world):
    page = {"run": importlib.import_module("jobs.tiny").write_no_table, "name": "page", "reads": (), "writes": ()}
    notes = [world.run(f"rank.blend_k={k}", **page).record["notes"] for k in (5, 7, 5)]
    assert notes == [["blend_k is 5"], ["blend_k is 7"], ["blend_k is 5"]]
    assert [record["stage"] for record in world.records()] == ["tiny", "page", "page", "page"]


def test_other_code_is_work_again(world, edit):
    edit("tiny.py", "\n# changed\n")
    assert world.is_work()


def test_a_changed_source_file_is_work_again(world, edit):
    edit("source.csv", "2\n")
    assert world.is_work()


def test_a_result_that_someone_else_wrote_over_is_work_again(spark, world):
    world.store.replace(BLENDS, spark.createDataFrame([("main", 9.0, 9.0, 9)], BLENDS.schema), {"run_id": "main"})
    assert world.is_work()


def test_an_input_that_was_removed_and_made_anew_is_work_again_though_its_version_is_the_same(spark, world):
    shutil.rmtree(world.store.path(ITEM_INDEX))
    world.store.append(ITEM_INDEX, items(spark, "x", "y"))
    assert world.store.version(ITEM_INDEX) == 0
    assert not world.run().skipped
    assert world.blends() == [("main", 1.0, 10.0, 2)]


def test_a_result_that_was_removed_and_made_anew_is_work_again_though_its_version_is_the_same(spark, world):
    shutil.rmtree(world.store.path(BLENDS))
    assert world.is_work()
    world.store.replace(BLENDS, spark.createDataFrame([("main", 9.0, 9.0, 9)], BLENDS.schema), {"run_id": "main"})
    assert world.store.version(BLENDS) == 0
    assert not world.run().skipped
    assert world.blends() == [FIRST]


def test_a_warehouse_of_an_earlier_release_goes_on(spark, world):
    """Its RUNS have no column `table_ids`: its stages are done again once, and the column is added."""
    old = world.store.read(RUNS).drop("table_ids").localCheckpoint()
    shutil.rmtree(world.store.path(RUNS))
    old.write.format("delta").save(world.store.path(RUNS))
    assert not world.run().skipped
    assert [record["table_ids"] is None for record in world.records()] == [True, False]
    assert world.run().skipped


def test_another_run_has_a_slice_and_a_record_of_its_own(world):
    assert not world.run("run.id=other").skipped
    assert world.blends() == [FIRST, ("other", 2.0, 10.0, 3)]
    assert [record["run_id"] for record in world.records()] == ["main", "other"]


def test_stages_of_one_session_read_runs_once_and_again_when_another_job_added_to_it(world):
    records = Records(world.store, "main")

    def run(*settings):
        return run_stage(stage(world.home), world.spark, config_of(world.store.root, *settings), records=records)

    assert run().skipped
    done = run("rank.blend_k=5")
    assert not done.skipped and records.last("tiny") is done.record, "its own record it knows"
    assert records.last("another") is None
    world.run("rank.blend_k=7")
    assert records.last("tiny").config == world.records()[-1]["config"] != done.record.config
    assert run("rank.blend_k=7").skipped


# --- failures ---------------------------------------------------------------------------------------------------------


def test_rows_that_break_the_contract_leave_the_old_slice_and_no_record(world):
    tiny = importlib.import_module("jobs.tiny")
    with pytest.raises(RecsysError, match=r"table BLENDS: wanted no null key .*found 3 of 3 rows"):
        world.run(run=tiny.break_the_contract, force=True)
    assert world.blends() == [FIRST] and world.store.version(BLENDS) == 0
    assert len(world.records()) == 1
    assert not tiny.KEPT[-1].storageLevel.useMemory, "kept rows are released"
    assert not world.is_work(), "the old result still stands"


def test_a_stage_that_fails_after_its_write_has_no_record_and_is_done_again(world):
    with pytest.raises(OSError, match="disk full"):
        world.run("rank.blend_k=5", run=importlib.import_module("jobs.tiny").write_and_fail)
    assert len(world.records()) == 1
    assert world.is_work()


def test_a_slice_without_rows_is_an_error_that_names_the_slice_and_the_job(world):
    with pytest.raises(RecsysError) as raised:
        world.run(reads=(BLENDS,), run=importlib.import_module("jobs.tiny").ask_for_an_unknown_slice)
    assert str(raised.value) == (
        "table BLENDS: wanted rows with run_id = main, tower_weight = 5.0; found none. "
        "Run jobs/choose_blend.py with the same configuration first."
    )


def test_a_missing_input_is_an_error_that_names_the_job_to_run(world):
    with pytest.raises(RecsysError, match=r"table MODELS: wanted a Delta table at .*; found none\. Run jobs/train\.py"):
        world.run(reads=(ITEM_INDEX, MODELS))


def test_a_source_that_changes_while_it_is_read_is_an_error_and_the_stage_does_not_count_as_done(spark, tmp_path):
    (tmp_path / "source.csv").write_text("a")

    def touch(context):
        (tmp_path / "source.csv").write_text("another text")

    stage = Stage(
        name="reader", run=touch, reads=(), writes=(), sections=(),
        sources=lambda spark, _config: list_files(spark, str(tmp_path / "source.csv")),
    )  # fmt: skip
    config = config_of(str(tmp_path / "warehouse"))
    with pytest.raises(RecsysError, match="wanted files that stay as they are while they are read"):
        run_stage(stage, spark, config)
    assert Store(spark, config.warehouse).state(RUNS) is None
