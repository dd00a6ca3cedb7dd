#!/usr/bin/env python3
"""Makes the environment ready: libraries, the Horovod wheel, Delta's jars. A moment when nothing changed.

    python3.11 tooling/setup_env.py               set everything up and link it as .venv
    python3.11 tooling/setup_env.py --print       the environment's folder
    python3.11 tooling/setup_env.py --print jars  Delta's jars, as spark-submit's --jars wants them
    python3.11 tooling/setup_env.py --prune       remove the environments of older locks and of the benches' peers

All of it lives under ${XDG_CACHE_HOME:-~/.cache}/recsys_spark, so that a second clone finds it ready:

    venv-<key>/          key: the lock, this Python, the recipes below
    wheels/<key>/        key: the versions of Horovod, torch and Python, the recipe of the build
    jars/<version>/      key: the version of Delta
    logs/                the full output of every step

A part is there when its `.complete` is, and that is written last: after a set-up that was killed, run it
again. Only the standard library is used, because this runs before anything is installed.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT))
from recsys_spark import doctor  # noqa: E402 - shares its checks, and needs nothing that is not installed yet

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recsys_spark"

# The recipes are data and the keys are hashes of them: what is run and what is keyed cannot drift apart,
# and a new comment here costs nobody a new environment.
PIP_INSTALL = ("install", "--no-deps", "--no-input", "--progress-bar=off", "--disable-pip-version-check")
PIP_FROM_SOURCE = ("--no-deps", "--no-build-isolation", "--disable-pip-version-check")

# Horovod's last release (2023) builds with today's torch after four edits: (file of its source, old, new).
HOROVOD_PATCHES = (
    # torch's headers need C++17 since 2.1
    ("CMakeLists.txt", "set(CMAKE_CXX_STANDARD 14)", "set(CMAKE_CXX_STANDARD 17)"),
    ("horovod/torch/CMakeLists.txt", "set(CMAKE_CXX_STANDARD 14)", "set(CMAKE_CXX_STANDARD 17)"),
    # a stray nvcc, or a torch that carries CUDA, would make CMake ask for the whole CUDA toolkit: see neither
    ("CMakeLists.txt", "check_language(CUDA)\nif(NOT CMAKE_CUDA_COMPILER)", "if(FALSE)"),
    (
        "cmake/Modules/FindPytorch.cmake",
        "((torch.version.cuda is not None) and (CUDA_HOME is not None))",
        "False",
    ),
)
# Ranks on CPUs talk through gloo, which Horovod brings along. (A GPU cluster builds its own Horovod, with
# HOROVOD_GPU_OPERATIONS=NCCL and the first two patches.)
HOROVOD_FLAGS = {
    "HOROVOD_WITH_PYTORCH": "1",
    "HOROVOD_WITH_GLOO": "1",
    "HOROVOD_WITHOUT_MPI": "1",
    "HOROVOD_WITHOUT_TENSORFLOW": "1",
    "HOROVOD_WITHOUT_MXNET": "1",
    "HOROVOD_WITHOUT_NVTX": "1",
}
DELTA_PACKAGE = "io.delta:delta-spark_2.13"  # pyspark 4 is built for Scala 2.13 only

MIN_DISK_GIB = 15.0  # 9 installed, 4 for a moment in pip's temporary folder, some in its cache
COMPILER_GIB = 2.0  # what one g++ takes on torch's headers, rounded up
HEARTBEAT_S = 30.0


class SetupError(Exception):
    """A step that failed, in words for the person at the terminal."""


def main() -> int:
    """Exit status 0, or 1 after one message about what to do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--print", nargs="?", const="env", choices=("env", "jars"), help="only print a path")
    action.add_argument("--prune", action="store_true", help="remove the environments of older locks and of peers")
    options = parser.parse_args()
    # A plain `kill` arrives as an exception, so that a running step is ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        require(doctor.check_python())
        if options.print:
            print(environment_folder() if options.print == "env" else ",".join(map(str, jar_files())))
        elif options.prune:
            prune()
        else:
            set_up()
    except SetupError as error:
        print(f"set-up failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nset-up interrupted; the same command goes on where it stopped", file=sys.stderr)
        return 130
    return 0


def set_up() -> None:
    """Makes what is missing, then points .venv at it."""
    started = time.monotonic()
    environment = environment_folder()
    if not (is_complete(environment) and has_jars()):
        with only_one_set_up() as lock:
            check_machine(environment)
            ensure_environment(environment, lock)
            ensure_jars(jars_folder(), environment, lock)
    link(CHECKOUT / ".venv", environment)
    say(f"environment ready: .venv -> {environment} ({time.monotonic() - started:.1f} s)")
    if others := len(list(CACHE.glob("venv-*"))) - 1:
        say(f"({others} of older locks beside it, 9 GB each; `make prune` removes them)")


def check_machine(environment: Path) -> None:
    """Says what the machine lacks at once, before minutes of download."""
    checks = [doctor.check_java()]
    if not is_complete(environment):
        checks.append(doctor.check_compiler(is_needed=not is_complete(wheel_folder())))
        checks.append(check_venv_module())
    if not (environment / ".has-libraries").is_file():
        checks.append(doctor.check_disk(CACHE, min_gib=MIN_DISK_GIB))
    require(*checks)


def check_venv_module() -> doctor.Check:
    """Debian ships Python's venv apart from Python."""
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        do = "install it (Debian: apt-get install python3-venv)"
        return doctor.Check("venv", False, f"{sys.executable} without ensurepip", "Python's venv module", do)
    return doctor.Check("venv", True, "there")


def require(*checks: doctor.Check) -> None:
    if failed := [check for check in checks if not check.ok]:
        raise SetupError(f"this machine is not ready\n{doctor.render(failed)}")


# --- what is wanted, and where it goes --------------------------------------------------------------------


def locked_version(library: str) -> str:
    return doctor.read_lock(doctor.LOCK_FILE)[library]


def environment_folder() -> Path:
    python = (platform.python_implementation(), platform.python_version(), sys.base_prefix)
    key = key_of(doctor.LOCK_FILE.read_text(), python, PIP_INSTALL, wheel_folder().name)
    return CACHE / f"venv-{key}"


def wheel_folder() -> Path:
    horovod, torch = locked_version("horovod"), locked_version("torch")
    python = platform.python_version_tuple()[:2]
    key = key_of(python, platform.machine(), HOROVOD_PATCHES, sorted(HOROVOD_FLAGS.items()))
    return CACHE / "wheels" / f"horovod-{horovod}-torch-{torch}-{key}"


def jars_folder() -> Path:
    return CACHE / "jars" / locked_version("delta-spark")


def jar_files() -> list[Path]:
    """The user's own jars when RECSYS_DELTA_JARS names some, otherwise those of the cache."""
    return doctor.delta_jars(os.environ.get(doctor.JARS_SETTING) or str(jars_folder()))


def has_jars() -> bool:
    return bool(os.environ.get(doctor.JARS_SETTING)) or is_complete(jars_folder())


def key_of(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def is_complete(folder: Path) -> bool:
    return (folder / ".complete").is_file()


# --- the three parts --------------------------------------------------------------------------------------


def ensure_environment(folder: Path, lock: int) -> None:
    """Libraries of the lock and the Horovod wheel, in a virtual environment made at its final place.

    Its scripts carry their absolute path, so it cannot be built elsewhere and moved. The libraries have a
    marker of their own: when the wheel fails to build, they need not be installed again.
    """
    if is_complete(folder):
        return
    has_libraries = folder / ".has-libraries"
    if not has_libraries.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        step("create the environment", [sys.executable, "-m", "venv", folder], lock)
        # All but Horovod: it comes as source only, and its build needs torch to be there.
        lines = doctor.LOCK_FILE.read_text().splitlines()
        libraries = folder / "requirements.txt"
        libraries.write_text("\n".join(line for line in lines if not line.startswith("horovod==")) + "\n")
        step(
            "install the libraries (9 GB, about 3 minutes)",
            [*pip(folder), *PIP_INSTALL, "-r", libraries],
            lock,
        )
        has_libraries.touch()
    ensure_wheel(wheel_folder(), folder, lock)
    wheel = next(wheel_folder().glob("horovod-*.whl"))
    step("install Horovod", [*pip(folder), *PIP_INSTALL, wheel], lock)
    step("check that the libraries agree", [*pip(folder), "check"], lock)
    (folder / ".complete").touch()


def ensure_wheel(folder: Path, environment: Path, lock: int) -> None:
    """The Horovod wheel, built from its patched source against the environment's torch."""
    if is_complete(folder):
        return
    with fresh_folder(folder) as building:
        variables = build_variables(environment)
        horovod = f"horovod=={locked_version('horovod')}"
        fetch = [*pip(environment), "download", *PIP_FROM_SOURCE, "--no-binary=horovod", horovod]
        step("fetch Horovod's source", [*fetch, "-d", building], lock, variables)
        archive = next(building.glob("horovod-*.tar.gz"))
        shutil.unpack_archive(archive, building)
        source = building / archive.name.removesuffix(".tar.gz")
        for file, old, new in HOROVOD_PATCHES:
            replace_once(source / file, old, new)
        # The build tools are the environment's (its cmake is below 4), not those of an isolated build.
        build = [*pip(environment), "wheel", *PIP_FROM_SOURCE, "--verbose", source, "-w", building]
        step("build the Horovod wheel (about 3 minutes)", build, lock, variables)
        shutil.rmtree(source)
        archive.unlink()


def ensure_jars(folder: Path, environment: Path, lock: int) -> None:
    """Delta's jars and what they need, resolved by Spark, which leaves out what Spark itself brings."""
    if has_jars():
        return
    with fresh_folder(folder) as building:
        ivy, nothing = building / "ivy", building / "nothing.py"
        nothing.write_text("")
        package = f"{DELTA_PACKAGE}:{locked_version('delta-spark')}"
        submit = [environment / "bin" / "spark-submit", "--master", "local[1]"]
        resolve = [*submit, "--packages", package, "--conf", f"spark.jars.ivy={ivy}", nothing]
        hint = f"without Maven, set {doctor.JARS_SETTING} to a folder with Delta's jars"
        step("fetch Delta's jars", resolve, lock, run_variables(environment), hint=hint)
        for jar in (ivy / "jars").glob("*.jar"):
            jar.rename(building / jar.name)
        shutil.rmtree(ivy)
        nothing.unlink()


def run_variables(environment: Path) -> dict[str, str]:
    """The caller's variables with the environment first on PATH and no other Spark or Python in sight."""
    hidden = ("SPARK_HOME", "PYTHONHOME", "PYTHONPATH", "PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return {**kept, "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"}


def build_variables(environment: Path) -> dict[str, str]:
    """Variables of the build: our own Horovod flags, no CUDA, as many compilers as memory allows."""
    variables = run_variables(environment)
    kept = {name: value for name, value in variables.items() if not name.startswith(("HOROVOD_", "CUDA"))}
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / doctor.GIB
    num_jobs = max(1, min(len(os.sched_getaffinity(0)), int(memory_gib / COMPILER_GIB)))
    # Set in any case: Horovod reads it, and what a calling `make` leaves there makes the build serial.
    return {**kept, **HOROVOD_FLAGS, "MAKEFLAGS": f"-j{num_jobs}"}


# --- the tools they are made with -------------------------------------------------------------------------


def pip(environment: Path) -> list[object]:
    return [environment / "bin" / "python", "-m", "pip"]


def step(
    what: str,
    command: list[object],
    lock: int,
    variables: dict[str, str] | None = None,
    hint: str = "mend what it says (often network or disk), then run the same command again",
) -> None:
    """Runs one command, its output in a log; says how long it took, or raises with the end of the log."""
    log = CACHE / "logs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{re.sub('[^a-zA-Z]+', '-', what)[:30]}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    say(f"  {what} …")
    started = time.monotonic()
    with log.open("w") as output:
        child = subprocess.Popen(
            [str(part) for part in command],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=variables,
            cwd=CACHE,  # not the checkout, whose packages a child must not import by chance
            pass_fds=(lock,),  # killed or not: while a child still writes, nobody else may start
        )
        try:
            while not has_ended(child):
                say(f"      {time.monotonic() - started:.0f} s")
        finally:
            child.terminate()
            child.wait()
    if child.returncode != 0:
        end = "\n".join(f"    {line}" for line in log.read_text(errors="replace").splitlines()[-15:])
        raise SetupError(f"could not {what}, exit status {child.returncode}\n{end}\n  full log: {log}\n  do: {hint}")
    say(f"    done in {time.monotonic() - started:.0f} s")


def has_ended(child: subprocess.Popen[bytes]) -> bool:
    """Waits for the child until the next sign of life is due."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(HEARTBEAT_S)
    return child.returncode is not None


@contextlib.contextmanager
def only_one_set_up() -> Iterator[int]:
    """Holds the cache's lock, so that two clones do not build the same thing; yields its descriptor."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "setup.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("  another set-up is at work in the same cache; waiting for it …")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


@contextlib.contextmanager
def fresh_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to build in; it takes its final name, complete, only when all went well."""
    building = folder.with_name(f"{folder.name}.building")
    for leftover in (building, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    building.mkdir(parents=True)
    yield building
    (building / ".complete").touch()
    building.rename(folder)


def replace_once(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    if text.count(old) != 1:
        raise SetupError(f"{file}: wanted {old!r} once, found it {text.count(old)} times; do: mend the patch")
    file.write_text(text.replace(old, new))


def link(name: Path, target: Path) -> None:
    """Points `name` at `target` in one step, so that a running command never finds it missing."""
    if name.exists() and not name.is_symlink():
        raise SetupError(f"wanted a link at {name}, found a folder of yours; do: move it away, run this again")
    if name.is_symlink() and name.readlink() == target:
        return
    fresh = name.with_name(f"{name.name}.{os.getpid()}")
    fresh.symlink_to(target)
    fresh.replace(name)


def prune() -> None:
    """Removes the environments of other locks, and those that benches made for their peers and would make again, unless
    a set-up is making one."""
    with only_one_set_up():
        for other in sorted({*CACHE.glob("venv-*"), *CACHE.glob("peers-*")} - {environment_folder()}):
            say(f"  remove {other}")
            shutil.rmtree(other)


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
