"""The first lines a rank runs. Standard library only: this module travels by value, the package in its argument.

A Horovod rank is a child process of a Spark task and has neither Spark's --py-files nor the driver's source tree on
its path, so it brings its code along (about 100 KiB) and imports nothing of ours before it is unpacked.
"""

from __future__ import annotations


def enter(archive: bytes, function: str, payload: str) -> str:
    """Put the packed package first on the path, then call `module:name` with the payload; text in, text out."""
    import importlib
    import sys
    import tempfile
    from pathlib import Path

    place = Path(tempfile.mkdtemp(prefix="recsys_spark_")) / "recsys_spark.zip"
    place.write_bytes(archive)
    sys.path.insert(0, str(place))
    module, _, name = function.partition(":")
    return str(getattr(importlib.import_module(module), name)(payload))
