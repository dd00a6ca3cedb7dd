"""numba's compiler with a cache on disk that is found again by every job.

numba keys its cache by the path of the source. Spark gives the package's archive another path in every application, so
that each would compile anew, ten seconds in every worker: code in an archive is kept by its content here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import ZipCacheLocator

Function = TypeVar("Function", bound=Callable[..., Any])


class ArchiveCacheLocator(ZipCacheLocator):
    """Where the machine code of functions in a zip archive lies: the user's cache folder, by the source's hash."""

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> ArchiveCacheLocator | None:
        locator = super().from_function(py_func, py_file)
        if locator is None:
            return None
        by_path = Path(locator._cache_path)
        locator._cache_path = str(by_path.with_name(f"recsys_spark_{locator.get_source_stamp().hex()[:24]}"))
        try:
            locator.ensure_cache_path()
        except OSError:  # no home folder, or none that can be written
            return None
        return cast(ArchiveCacheLocator, locator)


_config: Any = numba.config  # its settings are made at run time
_LOCATORS = f"{__name__}.{ArchiveCacheLocator.__name__},InTreeCacheLocator,UserWideCacheLocator"


def compiled(function: Function) -> Function:
    """Machine code in place of a function; without a place for the cache it is compiled in every process."""
    before = _config.CACHE_LOCATOR_CLASSES
    _config.CACHE_LOCATOR_CLASSES = _LOCATORS
    try:
        return cast(Function, numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # "no locator available"
        return cast(Function, numba.njit(nogil=True)(function))
    finally:
        _config.CACHE_LOCATOR_CLASSES = before
