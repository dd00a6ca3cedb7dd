"""Jobs as users run them: spark-submit, the packaged archive, another working directory, no source tree on any path."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from recsys_spark.runner import list_jars
from tests.jobs.world import write_world

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Place:
    """A folder with the archive, the job files, the configuration and a marketplace."""

    folder: Path
    conf_files: tuple[str, ...]

    @property
    def warehouse(self) -> Path:
        return self.folder / "world" / "warehouse"

    def submit(self, job: str, *arguments: str, master: str = "local[2]") -> subprocess.CompletedProcess[str]:
        """Run a job by spark-submit from this folder; spark-submit itself mixes the driver's two streams.

        Executors of their own (`master` local-cluster) have a temporary folder of their own, as on another machine.
        """
        bin_folder = Path(sys.executable).parent
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment["PATH"] = f"{bin_folder}{os.pathsep}{environment['PATH']}"
        jars = list_jars(environment.get("RECSYS_DELTA_JARS", ""))
        delta = ["--jars", ",".join(jars)] if jars else ["--packages", "io.delta:delta-spark_2.13:4.0.1"]
        command = [str(bin_folder / "spark-submit"), "--master", master, "--driver-memory", "2g", *delta]
        command += ["--conf", f"spark.executorEnv.TMPDIR={self.folder / 'executors'}"]
        command += ["--conf", "spark.log.level=ERROR", "--py-files", "recsys_spark.zip", f"jobs/{job}.py"]
        command += [part for file in self.conf_files for part in ("--conf-file", file)]
        return subprocess.run(
            [*command, *arguments],
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1500,
        )


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("user")
    with zipfile.ZipFile(folder / "recsys_spark.zip", "w") as archive:
        for package in ("recsys_spark", "jobs"):
            for file in (ROOT / package).rglob("*.py"):
                archive.write(file, file.relative_to(ROOT))
    shutil.copytree(ROOT / "jobs", folder / "jobs", ignore=shutil.ignore_patterns("__pycache__", "__init__.py"))
    shutil.copytree(ROOT / "conf", folder / "conf")
    (folder / "executors").mkdir()
    world = write_world(folder / "world")
    return Place(folder, ("conf/base.yaml", "conf/local.yaml", str(world)))
