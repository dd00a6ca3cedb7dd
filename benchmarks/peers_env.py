"""The Python of the peers' own environment, made at the first bench: about 15 seconds, 0.5 GB."""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path
from typing import Final

from tooling.setup_env import CACHE, PIP_INSTALL, is_complete, key_of, only_one_set_up, pip, step

REQUIREMENTS: Final = Path(__file__).with_name("score_peers.in")


def peers_python() -> Path:
    """Path of the interpreter; raises SetupError when pip cannot install the peers."""
    folder = CACHE / f"peers-{key_of(REQUIREMENTS.read_text(), platform.python_version(), sys.base_prefix)}"
    if not is_complete(folder):
        with only_one_set_up() as lock:
            shutil.rmtree(folder, ignore_errors=True)
            step("create the peers' environment", [sys.executable, "-m", "venv", folder], lock)
            options = [option for option in PIP_INSTALL if option != "--no-deps"]
            step("install the peers", [*pip(folder), *options, "-r", REQUIREMENTS], lock)
            (folder / ".complete").touch()
    return folder / "bin" / "python"
