"""What every task of a Python worker of Spark that computes with the model or the vectors does first."""

from __future__ import annotations

import sys
from zipimport import zipimporter

import torch


def begin_in_worker() -> None:
    """One thread, whatever the worker's environment says, and no archives to read again.

    A session that was there before (a notebook's) has its own OMP_NUM_THREADS, Spark's default is the executor's cores.
    Tasks already fill those; and of a product on several threads MKL gives other last bits to other rows of the batch
    (measured on an Intel Xeon: two equal texts of one batch), so that a vector would depend on its neighbours.
    """
    torch.set_num_threads(1)
    forget_archives()


def forget_archives() -> None:
    """The next task of this worker begins without reading the archives on its path again.

    pyspark's worker calls `importlib.invalidate_caches()` as each task starts. Up to Python 3.11 that reads the
    directory of pyspark.zip once for every package imported from it: 80 to 140 ms of every task. What is imported
    stays; finders come back, without reading, when an import asks for them.
    """
    for path, finder in [*sys.path_importer_cache.items()]:
        if isinstance(finder, zipimporter):
            del sys.path_importer_cache[path]
