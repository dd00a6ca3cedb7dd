"""The environment of the embedding peers: their own packages in front of the platform's, so that torch is the same."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from tooling.setup_env import CACHE, is_complete, only_one_set_up

REQUIREMENTS = Path(__file__).with_name("embed_peers.in")


def peers_python() -> Path:
    """Python of the peers' environment in the user's cache, made when it is not there (about a minute)."""
    platform = sysconfig.get_paths()["purelib"]
    key = hashlib.sha256(f"{REQUIREMENTS.read_text()}{platform}".encode()).hexdigest()[:12]
    folder = CACHE / f"peers-embed-{key}"
    python = folder / "bin" / "python"
    if not is_complete(folder):
        print(f"making the peers' environment, {folder} …", flush=True)
        with only_one_set_up():
            venv.create(folder, clear=True, with_pip=True)
            own = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
            (own / "platform.pth").write_text(f"{platform}\n")
            install = ("-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check")
            subprocess.run([python, *install, "-r", REQUIREMENTS], check=True)
            (folder / ".complete").touch()
    return python
