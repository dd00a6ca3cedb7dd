"""Peak memory of a whole process tree: the JVM, the driver, Spark's Python workers and Horovod's ranks."""

from __future__ import annotations

import threading
from contextlib import suppress

import psutil


class PeakMemory:
    """Samples the tree's proportional set size while its block runs; `peak_mib` is the largest sum seen.

    Pages shared between processes are counted once (PSS), so forked workers do not count double.
    """

    def __init__(self, every_seconds: float = 2.0) -> None:
        self.peak_mib = 0
        self._every_seconds = every_seconds
        self._done = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._sampler.join()

    def _sample(self) -> None:
        root = _root_process()
        while True:
            self.peak_mib = max(self.peak_mib, _tree_bytes(root) >> 20)
            if self._done.wait(self._every_seconds):
                return


def _root_process() -> psutil.Process:
    """Under spark-submit the JVM is the parent of the Python driver; otherwise it is its child."""
    own = psutil.Process()
    parent = own.parent()
    return parent if parent is not None and parent.name() == "java" else own


def _tree_bytes(root: psutil.Process) -> int:
    total = 0
    with suppress(psutil.Error):
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.Error):
                memory = process.memory_full_info()
                total += getattr(memory, "pss", memory.rss)
    return total
