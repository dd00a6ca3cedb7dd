"""The architecture as rules: who imports whom, what a transform may not do, how thin a job is."""

import ast
import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = [
    "Imports point down the layers only",
    "The package does not know its jobs",
    "Foundation is standard library and pydantic",
    "Tables know Spark and Delta only",
    "Kernels run without Spark, ranks, readers and trackers",
    "Transforms and evaluation are DataFrame in, DataFrame out",
    "Jobs reach models, ranks and readers through the bridges",
]


# --- who imports whom -------------------------------------------------------------------------------------------------


def lint(place):
    """lint-imports on the code at `place`: its exit code, the verdict of each contract, and all it said."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(place), "NO_COLOR": "1", "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    lines = [line.rsplit(maxsplit=1) for line in done.stdout.splitlines() if line.endswith((" KEPT", " BROKEN"))]
    return done.returncode, dict(lines), done.stdout + done.stderr


def test_imports_keep_every_contract():
    code, verdicts, said = lint(ROOT)
    assert verdicts == dict.fromkeys(CONTRACTS, "KEPT"), said
    assert code == 0


def test_each_contract_is_broken_by_an_import_it_forbids(tmp_path):
    for package in ("recsys_spark", "jobs"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    forbidden = {
        "recsys_spark/kernels/grid.py": "import recsys_spark.tables.store",
        "recsys_spark/models.py": "from jobs import score",
        "recsys_spark/errors.py": "import numpy",
        "recsys_spark/tables/store.py": "import torch",
        "recsys_spark/transforms/users.py": "import torch",
        "jobs/rank.py": "import numpy",
    }
    for file, line in forbidden.items():
        path = tmp_path / file
        path.write_text(f"{path.read_text()}\n\ndef later():\n    {line}\n")
    code, verdicts, said = lint(tmp_path)
    assert verdicts == dict.fromkeys(CONTRACTS, "BROKEN"), said
    assert code == 1


# --- transforms only plan ---------------------------------------------------------------------------------------------

ACTIONS = {
    "collect", "count", "first", "head", "take", "tail", "show", "isEmpty", "toPandas", "toArrow", "toLocalIterator",
    "foreach", "foreachPartition", "cache", "persist", "unpersist", "checkpoint", "localCheckpoint", "write", "writeTo",
    "writeStream", "read", "readStream", "sparkSession", "sparkContext", "rdd", "udf", "pandas_udf", "mapInArrow",
    "mapInPandas", "applyInPandas", "createDataFrame",
}  # fmt: skip


def actions(source):
    """Line and name of everything in the source that would run a query, reach for a session or call Python rows."""
    return sorted(
        (node.lineno, node.attr)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and node.attr in ACTIONS
        and not (isinstance(node.value, ast.Name) and node.value.id == "F" and "udf" not in node.attr)
    )


def test_the_scan_finds_actions_and_lets_functions_of_spark_pass():
    assert actions("rows.agg(F.count('a'), F.first('b')).collect()\nrows.write.save()\nF.udf(str)\ncount(3)") == [
        (1, "collect"), (2, "write"), (3, "udf"),
    ]  # fmt: skip


@pytest.mark.parametrize("layer", ["transforms", "evaluation"])
def test_transforms_and_evaluation_run_no_query_and_reach_for_no_session(layer):
    files = sorted((ROOT / "recsys_spark" / layer).rglob("*.py"))
    found = {file.name: actions(file.read_text(encoding="utf-8")) for file in files}
    assert len(found) > 1, "the scan looks into the right folder"
    assert {name: places for name, places in found.items() if places} == {}


# --- jobs are thin ----------------------------------------------------------------------------------------------------

GUARD = "__name__ == '__main__'"
OUTSIDE_THE_FLOW = {"repair_item_index", "similar_users"}
"""Jobs that nothing in the flow needs, or that cost too much for every run: they are submitted on their own."""

JOBS = [file for file in sorted((ROOT / "jobs").glob("*.py")) if file.name != "__init__.py"]


def decisions(source):
    """Lines with a loop, and with a choice other than the `__main__` guard."""
    kinds = (ast.If, ast.IfExp, ast.For, ast.While, ast.AsyncFor, ast.Match, ast.Try)
    tree = ast.parse(source)
    guards = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == GUARD]
    return [node.lineno for node in ast.walk(tree) if isinstance(node, kinds) and node not in guards]


def test_the_scan_finds_every_choice_but_the_guard():
    source = "for n in x:\n    pass\nif a:\n    pass\nb = 1 if c else 2\ndef run():\n    while d:\n        pass\n"
    assert sorted(decisions(source + 'if __name__ == "__main__":\n    run()\n')) == [1, 3, 5, 7]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.stem)
def test_a_job_decides_nothing_and_fits_on_a_screen(job):
    source = job.read_text(encoding="utf-8")
    assert decisions(source) == []
    assert len(source.splitlines()) <= 60


@pytest.mark.parametrize("job", [job for job in JOBS if job.stem != "pipeline"], ids=lambda job: job.stem)
def test_a_job_is_one_stage_of_its_files_name_and_stands_in_the_pipeline_unless_it_is_kept_out(job):
    stage = import_module(f"jobs.{job.stem}").STAGE
    assert stage.name == job.stem
    assert (stage in import_module("jobs.pipeline").FLOW) != (job.stem in OUTSIDE_THE_FLOW)
