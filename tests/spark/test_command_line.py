"""From arguments to the exit code, and the summary of a run."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from pyspark.sql import Row

from recsys_spark.pipeline import summarise
from recsys_spark.runner import Outcome, list_jars, parse_arguments
from tests.small_warehouse import CONF

pytestmark = pytest.mark.spark


def test_the_summary_tells_of_stages_and_figures_and_a_skipped_stage_had_no_memory():
    record = Row(peak_mib=900, rows_in={"EVENTS": 3}, rows_out={"ITEMS": 2}, notes=["a word"])
    outcomes = [Outcome("one", False, 1.26, record), Outcome("two", True, 0.04, record)]
    figure = {"slice": "all", "metric": "ndcg", "k": 10}
    metrics = [
        Row(method="popular", value=0.1, **figure),
        Row(method="popular", value=0.2, **{**figure, "slice": "new"}),
    ]
    rows = {"rows_in": {"EVENTS": 3}, "rows_out": {"ITEMS": 2}, "notes": ["a word"]}
    assert summarise("main", outcomes, metrics, {"EVENTS": 4}) == {
        "run_id": "main",
        "stages": [
            {"name": "one", "skipped": False, "seconds": 1.3, "peak_mib": 900, **rows},
            {"name": "two", "skipped": True, "seconds": 0.0, "peak_mib": None, **rows},
        ],
        "metrics": {"popular": {"ndcg@10 all": 0.1, "ndcg@10 new": 0.2}},
        "table_versions": {"EVENTS": 4},
    }


def test_jars_come_from_files_and_folders_in_order(tmp_path):
    for name in ("b.jar", "a.jar", "read.me"):
        (tmp_path / name).touch()
    assert list_jars(f"/x/one.jar,{tmp_path},/x/two.jar") == [
        "/x/one.jar", str(tmp_path / "a.jar"), str(tmp_path / "b.jar"), "/x/two.jar",
    ]  # fmt: skip
    assert list_jars("") == []


def test_arguments_lay_files_and_settings_over_each_other(tmp_path):
    arguments = ["--conf-file", str(CONF), "--conf-file", str(write_yaml(tmp_path)), "--set", "score.top_k=70"]
    submission = parse_arguments("tiny", [*arguments, "--set", "run.id=x", "--force"])
    assert (submission.config.score.top_k, submission.config.run.id, submission.force) == (70, "x", True)
    assert not parse_arguments("tiny", arguments).force
    with pytest.raises(SystemExit, match="2"):
        parse_arguments("tiny", ["--set", "score.top_k=70"])


def write_yaml(folder):
    """A data set that is never read; sessions of one thread."""
    file = folder / "shop.yaml"
    file.write_text(
        f"warehouse: {folder}/warehouse\n"
        "events: {source: {format: csv, path: e}, columns: {a: user_id, b: item_id, c: ts}, event_type: purchase}\n"
        "items: {source: {format: csv, path: i}, columns: {a: item_id, b: title}}\n"
        "split: {test_start: 2020-06-01}\n"
        "spark: {spark.master: 'local[1]', spark.ui.enabled: false}\n"
    )
    return file


JOBS = """
    import json, os, signal, sys
    from pyspark import SparkContext
    from recsys_spark.errors import problem
    from recsys_spark.runner import as_job

    def fine(submission, spark):
        assert spark.range(3).count() == 3

    def wrong(submission, spark):
        raise problem("the shelf", wanted="apples", found="pears", do="Buy some.")

    def broken(submission, spark):
        raise ZeroDivisionError("a fault of ours")

    def unknown(submission, spark):
        spark.sql("SELECT raise_error('a new kind')").collect()

    def killed(submission, spark):
        os.kill(spark.sparkContext._jvm.java.lang.ProcessHandle.current().pid(), signal.SIGKILL)
        spark.range(3).count()

    def outcome(body, *more):
        try:
            code = as_job("tiny", body, [*sys.argv[1:], *more])
        except ZeroDivisionError as error:
            code = str(error)
        return [code, SparkContext._active_spark_context is None]

    print(json.dumps({
        "fine": outcome(fine), "wrong": outcome(wrong), "broken": outcome(broken),
        "typo": outcome(fine, "--set", "score.topk=1"), "no warehouse": outcome(fine, "--set", "warehouse=FILE/w"),
        "unknown": outcome(unknown), "killed": outcome(killed)[:1],
    }))
"""


NO_SESSION = """
    import json, sys
    from pyspark import SparkContext
    from recsys_spark.runner import as_job

    code = as_job("tiny", lambda submission, spark: None, [*sys.argv[1:], "--set", "spark={spark.master: 'local[no]'}"])
    print(json.dumps([code, SparkContext._active_spark_context is None]))
"""


def run_jobs(folder, code):
    """Runs code, in which FILE is the configuration, in a process of its own."""
    file = write_yaml(folder)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code).replace("FILE", str(file)), "--conf-file", str(CONF),
         "--conf-file", str(file)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def test_a_job_ends_with_0_or_with_1_and_the_users_error_and_leaves_no_session(tmp_path):
    done = run_jobs(tmp_path, JOBS)
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "fine": [0, True], "wrong": [1, True], "broken": ["a fault of ours", True], "typo": [1, True],
        "no warehouse": [1, True], "unknown": [1, True], "killed": [1],
    }  # fmt: skip
    assert "tiny stopped:\nthe shelf: wanted apples; found pears. Buy some.\n" in done.stderr
    assert "tiny stopped:\nconfiguration, score.topk: wanted a known key; found 'topk'." in done.stderr
    assert f"warehouse {tmp_path}/shop.yaml/w: wanted a folder that can be written" in done.stderr
    assert "tiny: wanted work that Spark finishes; found [USER_RAISED_EXCEPTION] a new kind" in done.stderr
    assert "tiny: wanted Spark's driver, whose JVM runs the job; found no answer: it has ended." in done.stderr
    assert "Traceback" not in done.stderr and "py4j" not in done.stderr


def test_a_session_that_does_not_start_is_told_as_an_error_too(tmp_path):
    done = run_jobs(tmp_path, NO_SESSION)
    assert json.loads(done.stdout.splitlines()[-1]) == [1, True]
    assert "tiny: wanted work that Spark finishes; found Could not parse Master URL: 'local[no]'." in done.stderr
    assert "Traceback" not in done.stderr  # Spark itself logs its stack, before anybody can quiet it
