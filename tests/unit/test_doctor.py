"""The doctor names what is wrong, what was wanted and what to do: for every fault, at once."""

import contextlib
import importlib.metadata
import os
import socket
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from recsys_spark import doctor
from recsys_spark.doctor import Check


@pytest.fixture
def fake_java(tmp_path, monkeypatch):
    """Makes JAVA_HOME a JDK that announces the given version."""

    def make(version: str) -> None:
        java = tmp_path / "jdk" / "bin" / "java"
        java.parent.mkdir(parents=True)
        java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2025-01-21' >&2\n")
        java.chmod(java.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))

    return make


@pytest.fixture
def jars(tmp_path):
    folder = tmp_path / "jars"
    folder.mkdir()
    for name in ("io.delta_delta-spark_2.13-4.0.1.jar", "io.delta_delta-storage-4.0.1.jar"):
        (folder / name).touch()
    return folder


def test_accepts_the_python_of_the_environment():
    assert doctor.check_python().ok


@pytest.mark.parametrize(("version", "is_supported"), [("17.0.15", True), ("21", True), ("11.0.2", False)])
def test_accepts_only_the_jdks_that_spark_supports(fake_java, version, is_supported):
    fake_java(version)
    check = doctor.check_java()
    assert (check.ok, check.found) == (is_supported, version)


def test_reads_the_old_style_of_java_versions_as_too_old(fake_java):
    fake_java("1.8.0_392")
    check = doctor.check_java()
    assert not check.ok
    assert "1.8.0_392" in check.found


def test_says_that_java_home_leads_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "gone"))
    check = doctor.check_java()
    assert not check.ok
    assert str(tmp_path / "gone" / "bin" / "java") in check.found
    assert "17" in check.wanted
    assert "JAVA_HOME" in check.do


def test_names_the_compilers_that_are_missing(tmp_path, monkeypatch):
    (tmp_path / "gcc").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    check = doctor.check_compiler(is_needed=True)
    assert not check.ok
    assert check.found == "no g++, make on PATH"


def test_needs_no_compiler_once_horovod_is_built(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.check_compiler(is_needed=False).ok


def test_measures_the_disk_of_a_folder_that_does_not_exist_yet(tmp_path):
    enough = doctor.check_disk(tmp_path / "not" / "yet", min_gib=0)
    too_little = doctor.check_disk(tmp_path / "not" / "yet", min_gib=1e9)
    assert enough.ok
    assert not too_little.ok
    assert str(tmp_path) in too_little.found


def test_refuses_a_machine_with_too_little_memory():
    check = doctor.check_memory(min_gib=1e6)
    assert not check.ok
    assert check.wanted == "1e+06 GiB"


def test_lists_every_library_that_differs_from_the_lock(tmp_path):
    installed = importlib.metadata.version("pytest")
    lock = tmp_path / "requirements.lock"
    lock.write_text(f"# made by hand\npytest=={installed}\n    # via tests\nnumpy==0.0.1\nno-such-library==3.2\n")
    check = doctor.check_libraries(lock)
    assert not check.ok
    assert check.found == f"numpy {importlib.metadata.version('numpy')}, no-such-library missing"
    assert check.wanted == "numpy 0.0.1, no-such-library 3.2"
    assert "make setup" in check.do


def test_the_environment_is_the_one_of_the_lock():
    check = doctor.check_libraries(doctor.LOCK_FILE)
    assert check.ok, check


def test_says_that_there_is_no_lock(tmp_path):
    check = doctor.check_libraries(tmp_path / "gone.lock")
    assert not check.ok
    assert "gone.lock" in check.found


def test_takes_jars_from_a_folder_or_from_a_comma_list(jars):
    as_list = ", ".join(str(jar) for jar in sorted(jars.iterdir()))
    assert doctor.delta_jars(str(jars)) == doctor.delta_jars(as_list) == sorted(jars.iterdir())
    assert doctor.check_delta_jars(str(jars)).ok


def test_names_the_jar_that_does_not_exist(jars):
    check = doctor.check_delta_jars(f"{jars}/io.delta_delta-spark_2.13-4.0.1.jar,{jars}/delta-storage-9.jar")
    assert not check.ok
    assert check.found == f"no file {jars}/delta-storage-9.jar"
    assert doctor.JARS_SETTING in check.do


def test_misses_the_jar_that_delta_itself_needs(jars):
    (jars / "io.delta_delta-storage-4.0.1.jar").unlink()
    check = doctor.check_delta_jars(str(jars))
    assert not check.ok
    assert check.found == f"no delta-storage-….jar in {jars}"


def test_finds_jars_that_spark_already_has(jars, monkeypatch):
    monkeypatch.setenv("SPARK_HOME", str(jars.parent))
    assert doctor.delta_jars("") == []
    for jar in jars.iterdir():
        jar.rename(jar.with_name(jar.name.removeprefix("io.delta_")))
    assert doctor.check_delta_jars("").ok


def test_refuses_a_spark_submit_of_another_python(tmp_path, monkeypatch):
    ours = Path(sys.executable).parent
    monkeypatch.delenv("SPARK_HOME", raising=False)
    monkeypatch.setenv("PATH", str(ours), prepend=os.pathsep)
    assert doctor.check_spark_on_path().ok

    other = tmp_path / "python3"
    other.write_text("#!/bin/sh\necho /somewhere/pyspark/__init__.py\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    check = doctor.check_spark_on_path()
    assert not check.ok
    assert check.found == "/somewhere/pyspark"
    assert f'PATH="{ours}:$PATH"' in check.do


def test_refuses_a_spark_home_that_is_not_this_spark(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    monkeypatch.setenv("SPARK_HOME", str(tmp_path))
    check = doctor.check_spark_on_path()
    assert not check.ok
    assert check.found == str(tmp_path)
    assert "unset SPARK_HOME" in check.do


def test_this_machine_reaches_itself_by_its_name():
    assert doctor.check_loopback().ok


def test_says_which_name_does_not_resolve(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "no-such-machine.invalid")
    check = doctor.check_loopback()
    assert not check.ok
    assert "no-such-machine.invalid" in check.found
    assert "/etc/hosts" in check.do


@pytest.mark.parametrize(
    ("settings", "ok", "found"),
    [
        ({"LC_ALL": "C.UTF-8", "LANG": "C"}, True, "LC_ALL=C.UTF-8"),
        ({"LANG": "de_DE.utf8"}, True, "LANG=de_DE.utf8"),
        ({"LC_ALL": "C", "LANG": "C.UTF-8"}, False, "LC_ALL=C"),
        ({"LC_CTYPE": "de_DE.ISO-8859-1"}, False, "LC_CTYPE=de_DE.ISO-8859-1"),
        ({}, False, "none, which means C"),
    ],
)
def test_looks_at_the_locale_that_counts(monkeypatch, settings, ok, found):
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    check = doctor.check_locale()
    assert (check.ok, check.found) == (ok, found)


def test_reports_the_module_that_does_not_import():
    check = doctor.check_imports(["json", "no_such_module"])
    assert not check.ok
    assert check.found == "ModuleNotFoundError: No module named 'no_such_module'"


def test_gives_up_on_a_child_that_hangs():
    assert doctor.run_child("import time; time.sleep(60)", limit_s=0.5) == "no answer in 0.5 s"


def test_reports_a_child_that_dies_without_a_word():
    assert doctor.run_child("import os; os._exit(7)", limit_s=30) == "exit status 7"


@pytest.mark.distributed
def test_two_ranks_agree_on_a_sum_and_neither_listen_to_others_nor_show_the_environment(monkeypatch):
    monkeypatch.setenv("SHOP_PASSWORD", "hunter2")
    commands, listening = set(), set()
    with ThreadPoolExecutor(1) as thread:
        checking = thread.submit(doctor.check_allreduce)
        while not checking.done():
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    commands.add(" ".join(child.cmdline()))
                    sockets = child.net_connections("inet")
                    listening |= {socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN}
            time.sleep(0.02)
    assert checking.result().ok, checking.result()
    assert any("run_two_ranks" in command for command in commands)
    assert not any("hunter2" in command for command in commands)
    assert listening and listening <= {"127.0.0.1", "::ffff:127.0.0.1"}


def test_the_page_is_aligned_and_tells_what_to_do():
    results = [
        Check("python", True, "cpython 3.11.7"),
        Check("java", False, "11.0.2", "JDK 17", "install it"),
        Check("delta jars", True, "3 jars"),
    ]
    assert doctor.render(results).splitlines() == [
        "  ok    python      cpython 3.11.7",
        "  FAIL  java        11.0.2",
        "                    wanted: JDK 17",
        "                    do:     install it",
        "  ok    delta jars  3 jars",
    ]


def test_runs_every_check_although_one_fails_and_keeps_their_order():
    checks = [Check(name, ok, "") for name, ok in (("a", False), ("b", True), ("c", False))]
    assert doctor.run_checks([lambda check=check: check for check in checks]) == checks


def test_exit_status_tells_whether_all_is_well(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "check_all", lambda lock: [Check("python", True, "cpython 3.11.7")])
    assert doctor.main([]) == 0
    monkeypatch.setattr(doctor, "check_all", lambda lock: [Check("python", False, "3.8", "3.11", "install it")])
    assert doctor.main([]) == 1
    shown = capsys.readouterr().out
    assert "FAIL  python  3.8" in shown
    assert "1 of 1 checks failed in 0.0 s" in shown


def test_starts_where_nothing_is_installed():
    """tooling/setup_env.py asks it for Python, JDK and compiler on a bare machine."""
    code = "import recsys_spark.doctor as doctor; assert doctor.check_python().ok"
    isolated = [sys.executable, "-S", "-c", code]  # -S: no site-packages
    subprocess.run(isolated, cwd=doctor.CHECKOUT, env={"PATH": os.environ["PATH"]}, check=True)
