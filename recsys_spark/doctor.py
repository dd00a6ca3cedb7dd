"""Checks that this machine can run the platform, in seconds and all at once.

    python -m recsys_spark.doctor

Every check is a function that returns one `Check`. Heavy libraries are imported in child processes only:
the page of results comes even where one of them crashes on import, and tooling/setup_env.py can ask for
Python, JDK and compiler before anything is installed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]
LOCK_FILE = CHECKOUT / "requirements.lock"
JARS_SETTING = "RECSYS_DELTA_JARS"

WANTED_PYTHON = (3, 11)
WANTED_JAVA = (17, 21)  # what Spark 4.0 supports; the figures in README were measured on 17
MIN_DISK_GIB = 4.0  # the main job's warehouse, shuffle files and model versions, with room for another run
MIN_MEMORY_GIB = 11.0  # the main job may take 12 GiB; a machine sold as 12 GiB shows a little less
IMPORT_LIMIT_S = 120.0  # seconds on an idle machine; only a hang takes this long
ALLREDUCE_LIMIT_S = 120.0
LOOPBACK = "127.0.0.1"
GIB = 2**30


@dataclass(frozen=True)
class Check:
    """One precondition: what was found and, where it fails, what was wanted and what to do."""

    name: str
    ok: bool
    found: str
    wanted: str = ""
    do: str = ""


def check_python() -> Check:
    """CPython 3.11: the newest Python that pyarrow 14 and the Horovod build were verified with."""
    found = f"{sys.implementation.name} {sys.version.split()[0]}"
    return Check(
        "python",
        ok=sys.implementation.name == "cpython" and sys.version_info[:2] == WANTED_PYTHON,
        found=found,
        wanted="CPython 3.11",
        do="install CPython 3.11 and name it: make PYTHON=/path/to/python3.11 …",
    )


def check_java() -> Check:
    """The java that Spark will start: JAVA_HOME's first, as Spark's own scripts look it up."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    wanted = "JDK 17 (21 works too)"
    do = "install a JDK (Debian: apt-get install openjdk-17-jdk-headless), then set JAVA_HOME or PATH to it"
    if java is None or not Path(java).exists():
        return Check("java", False, f"no java at {java}" if java else "no java on PATH", wanted, do)
    version = re.search(r'version "((\d+)[^"]*)"', output_of([java, "-version"]))
    if version is None:
        return Check("java", False, f"{java} does not tell its version", wanted, do)
    return Check("java", int(version.group(2)) in WANTED_JAVA, version.group(1), wanted, do)


def check_compiler(*, is_needed: bool) -> Check:
    """A C++ compiler and make, wanted only while the Horovod wheel still has to be built."""
    if not is_needed:
        return Check("compiler", True, "not needed: Horovod is built")
    missing = [tool for tool in ("gcc", "g++", "make") if shutil.which(tool) is None]
    return Check(
        "compiler",
        ok=not missing,
        found=f"no {', '.join(missing)} on PATH" if missing else "gcc, g++, make",
        wanted="gcc, g++ and make, to build Horovod once",
        do="install them (Debian: apt-get install build-essential)",
    )


def check_disk(folder: Path, *, min_gib: float = MIN_DISK_GIB) -> Check:
    """Free space of the file system that will hold `folder`, which need not exist yet."""
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    free_gib = shutil.disk_usage(existing).free / GIB
    return Check(
        "disk",
        ok=free_gib >= min_gib,
        found=f"{free_gib:.1f} GiB free at {existing}",
        wanted=f"{min_gib:g} GiB free",
        do=f"free some space at {existing}, or work on a larger disk",
    )


def check_memory(*, min_gib: float = MIN_MEMORY_GIB) -> Check:
    """Memory of the machine or of the container around us, whichever is smaller."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for limit_file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        if Path(limit_file).is_file() and (limit := Path(limit_file).read_text().strip()).isdigit():
            limits.append(int(limit))
    memory_gib = min(limits) / GIB
    return Check(
        "memory",
        ok=memory_gib >= min_gib,
        found=f"{memory_gib:.1f} GiB",
        wanted=f"{min_gib:g} GiB",
        do="give the machine or its container more memory, or run the jobs on a cluster",
    )


def check_libraries(lock_file: Path) -> Check:
    """Every library of the lock is installed, in the version of the lock."""
    if not lock_file.is_file():
        do = "run it in a checkout, or name the lock with --lock"
        return Check("libraries", False, f"no {lock_file}", "the lock file", do)
    wanted = read_lock(lock_file)
    wrong = []
    for name, version in wanted.items():
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed = "missing"
        if installed != version:
            wrong.append((f"{name} {installed}", f"{name} {version}"))
    return Check(
        "libraries",
        ok=not wrong,
        found=", ".join(found for found, _ in wrong) or f"{len(wanted)} libraries, as locked",
        wanted=", ".join(version for _, version in wrong),
        do="make setup, and run with the Python of .venv",
    )


def read_lock(lock_file: Path) -> dict[str, str]:
    """Library -> version of a lock's `name==version` lines; comments and options are passed over."""
    lines = (line.split("#")[0].strip() for line in lock_file.read_text().splitlines())
    return dict(line.split("==", 1) for line in lines if "==" in line)


def check_delta_jars(setting: str) -> Check:
    """Delta's jars: those that the setting names, or else those in Spark's own folder."""
    jars = delta_jars(setting)
    gone = [f"no file {jar}" for jar in jars if not jar.is_file()]
    parts = ("delta-spark_", "delta-storage-")
    absent = [f"no {part}….jar" for part in parts if not any(part in jar.name for jar in jars)]
    place = setting or "Spark's own jars"
    return Check(
        "delta jars",
        ok=not gone and not absent,
        found=", ".join(gone) or (f"{', '.join(absent)} in {place}" if absent else f"{len(jars)} jars"),
        wanted="the jars delta-spark_… and delta-storage-…",
        do=f"make doctor (it fetches them), or set {JARS_SETTING} to their folder or to a comma list",
    )


def delta_jars(setting: str) -> list[Path]:
    """The jars of a comma list of files and folders; the Delta jars in Spark's own folder if it is empty."""
    if not setting.strip():
        home = Path(os.environ["SPARK_HOME"]) if os.environ.get("SPARK_HOME") else installed_spark()
        return sorted(home.glob("jars/delta-*.jar")) if home else []
    named = [Path(part.strip()).expanduser() for part in setting.split(",") if part.strip()]
    return [jar for place in named for jar in (sorted(place.glob("*.jar")) if place.is_dir() else [place])]


def installed_spark() -> Path | None:
    """The folder of this Python's pyspark, found without importing it."""
    spec = importlib.util.find_spec("pyspark")
    return Path(spec.origin).resolve().parent if spec and spec.origin else None


def check_spark_on_path() -> Check:
    """`spark-submit` starts this Python's Spark: pip's script finds it through the first python3 on PATH."""
    ours, submit, python = installed_spark(), shutil.which("spark-submit"), shutil.which("python3")
    wanted = str(ours or "pyspark beside this Python")
    do = f'put this environment first: PATH="{Path(sys.executable).parent}:$PATH", and unset SPARK_HOME'
    if ours is None or submit is None or python is None:
        return Check("spark-submit", False, "not on PATH" if ours else "no pyspark", wanted, do)
    question = "import importlib.util as u; s = u.find_spec('pyspark'); print(s.origin if s else '')"
    # -P: what lies in the current folder is not what spark-submit finds.
    answer = output_of([python, "-P", "-c", question]).strip()
    theirs = os.environ.get("SPARK_HOME") or (answer and str(Path(answer).resolve().parent))
    found = theirs or f"no pyspark under {python}"
    return Check("spark-submit", Path(found).resolve() == ours, found, wanted, do)


def check_imports(modules: Sequence[str] = ("torch", "petastorm", "horovod.torch")) -> Check:
    """The native libraries load, one after another in one process: their clashes show only together."""
    failure = run_child(f"import {', '.join(modules)}", limit_s=IMPORT_LIMIT_S)
    return Check(
        "imports",
        ok=failure is None,
        found=failure or ", ".join(modules),
        wanted=f"import {', '.join(modules)}",
        do="make setup; if it stays, remove the folder that .venv points to and run it again",
    )


def check_allreduce() -> Check:
    """Two ranks on this machine sum a tensor through Horovod and Gloo, as training will."""
    started = time.monotonic()
    failure = run_child(
        "from recsys_spark.doctor import run_two_ranks; run_two_ranks()",
        limit_s=ALLREDUCE_LIMIT_S,
    )
    return Check(
        "allreduce",
        ok=failure is None,
        found=failure or f"two ranks agree after {time.monotonic() - started:.1f} s",
        wanted="two Horovod ranks that agree on a sum",
        do="mend the failures above first; a firewall must let processes of this machine talk to each other",
    )


def run_two_ranks() -> None:
    """Starts the two ranks and raises unless each of them saw 1 + 2.

    Not by Horovod's own launcher: it puts the whole environment, passwords among it, on a command line that every user
    of the machine can read, and hands functions over in a store that takes them from anybody.
    """
    from horovod.runner.common.util.hosts import get_host_assignments, parse_hosts
    from horovod.runner.http.http_server import RendezvousServer

    from recsys_spark.bridges.horovod_launch import listening_on

    slots = get_host_assignments(parse_hosts("localhost:2"), 2)
    rendezvous = RendezvousServer()
    with listening_on(LOOPBACK):
        port = rendezvous.start()
    rendezvous.init(slots)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as ranks:
        sums = list(ranks.map(sum_over_ranks, slots, [port, port]))
    rendezvous.stop()
    if sums != [3.0, 3.0]:
        raise SystemExit(f"the ranks' sums are {sums}, not [3.0, 3.0]")


def sum_over_ranks(slot: Any, port: int) -> float:
    """What one rank does: its number, counted from 1, summed over the ranks. `slot` is Horovod's word for its place."""
    from horovod.runner.gloo_run import create_run_env_vars, create_slot_env_vars
    from horovod.runner.util.network import get_local_intfs

    settings = {**create_slot_env_vars(slot), **create_run_env_vars(LOOPBACK, get_local_intfs(), port)}
    os.environ.update({name: str(value) for name, value in settings.items()})
    import horovod.torch as hvd
    import torch

    hvd.init()
    try:
        return float(hvd.allreduce(torch.tensor([hvd.rank() + 1.0]), op=hvd.Sum).item())
    finally:
        hvd.shutdown()


def check_loopback() -> Check:
    """This machine's own name leads back to it: Spark's driver and Horovod's ranks go by that name."""
    name = socket.gethostname()
    try:
        with socket.create_server((socket.gethostbyname(name), 0)) as server:
            address = server.getsockname()
            socket.create_connection(address, timeout=5).close()
    except OSError as error:
        return Check(
            "loopback",
            ok=False,
            found=f"{name}: {error}",
            wanted=f"the name {name} resolves to an address of this machine",
            do=f"add the line '127.0.0.1 {name}' to /etc/hosts, or export SPARK_LOCAL_IP=127.0.0.1",
        )
    return Check("loopback", True, f"{name} is {address[0]}")


def check_locale() -> Check:
    """The locale can say every name of a file: under C, as in many containers, the JVM finds names in ASCII only."""
    setting = next((name for name in ("LC_ALL", "LC_CTYPE", "LANG") if os.environ.get(name)), None)
    locale = os.environ[setting] if setting else "C"
    return Check(
        "locale",
        ok=locale.upper().replace("-", "").partition(".")[2].startswith("UTF8"),
        found=f"{setting}={locale}" if setting else "none, which means C",
        wanted="a locale in UTF-8, or Spark finds no file whose name is not ASCII",
        do="export LC_ALL=C.UTF-8",
    )


def run_child(code: str, *, limit_s: float) -> str | None:
    """Runs Python code in a child that can import this package; None, or the last line of its complaint."""
    path = os.pathsep.join([str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        child = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {limit_s:g} s"
    if child.returncode == 0:
        return None
    complaint = [line for line in child.stderr.splitlines() if line.strip()]
    return complaint[-1].strip() if complaint else f"exit status {child.returncode}"


def output_of(command: Sequence[str]) -> str:
    """What a short command prints, on either stream; nothing if it hangs or does not start."""
    try:
        ended = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ended.stdout


def run_checks(checks: Sequence[Callable[[], Check]]) -> list[Check]:
    """Runs the checks side by side, results in the given order: most of them wait for a child process."""
    with ThreadPoolExecutor(max_workers=len(checks)) as pool:
        return list(pool.map(lambda check: check(), checks))


def render(results: Sequence[Check]) -> str:
    """The aligned list: one line per check and, under a failure, what was wanted and what to do."""
    width = max(len(result.name) for result in results)
    lines = []
    for result in results:
        lines.append(f"  {'ok  ' if result.ok else 'FAIL'}  {result.name:<{width}}  {result.found}")
        if not result.ok:
            lines.append(f"        {'':<{width}}  wanted: {result.wanted}")
            lines.append(f"        {'':<{width}}  do:     {result.do}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the list; 1 if any check failed."""
    parser = argparse.ArgumentParser(prog="python -m recsys_spark.doctor", description=main.__doc__)
    parser.add_argument("--lock", type=Path, default=LOCK_FILE, help="the lock file to compare with")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    results = check_all(options.lock)
    num_failed = sum(not result.ok for result in results)
    num_checks = len(results)
    verdict = f"{num_failed} of {num_checks} checks failed" if num_failed else f"all {num_checks} checks passed"
    print(f"{render(results)}\n{verdict} in {time.monotonic() - started:.1f} s")
    return 1 if num_failed else 0


def check_all(lock_file: Path = LOCK_FILE) -> list[Check]:
    """Every precondition of the platform."""
    return run_checks(
        [
            check_python,
            check_java,
            lambda: check_compiler(is_needed=importlib.util.find_spec("horovod") is None),
            lambda: check_disk(CHECKOUT),
            check_memory,
            lambda: check_libraries(lock_file),
            lambda: check_delta_jars(os.environ.get(JARS_SETTING, "")),
            check_spark_on_path,
            check_loopback,
            check_locale,
            check_imports,
            check_allreduce,
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
