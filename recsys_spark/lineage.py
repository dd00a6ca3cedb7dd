"""What a stage depends on besides its configuration: its code and the files it reads from outside."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import json
from importlib.machinery import ModuleSpec, PathFinder

_OURS = ("recsys_spark", "jobs")


def fingerprint(parts: object) -> str:
    """Hash of plain values: equal parts give an equal fingerprint, on any machine."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def code_hash(module: str) -> str:
    """Hash of the source of `module` and of every module of ours it imports, directly or not.

    Works from a source tree and from a packaged archive alike; a stage whose code did not change keeps its hash
    when another stage's code does.
    """
    sources: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in sources:
            sources[name] = _source(name)
            waiting.extend(_imports(sources[name]))
    return fingerprint(sorted(sources.items()))


def _source(module: str) -> str:
    spec = _find(module)
    assert spec is not None and spec.loader is not None, module
    return spec.loader.get_source(module) or ""  # type: ignore[attr-defined]  # every source loader has it


@functools.cache  # parsing all of a stage's modules takes 0.2 to 0.5 s, and stages share most of them
def _imports(source: str) -> tuple[str, ...]:
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        found += [name for name in names if name.split(".")[0] in _OURS and _find(name) is not None]
    return tuple(found)


def _find(module: str) -> ModuleSpec | None:
    """Where a module of ours lies, without importing what it lies in; None for `package.module.CONSTANT`."""
    package, *rest = module.split(".")
    spec, place = importlib.util.find_spec(package), list(importlib.import_module(package).__path__)
    for name in rest:
        package = f"{package}.{name}"
        spec = PathFinder.find_spec(package, place) if place else None
        place = list((spec and spec.submodule_search_locations) or ())
    return spec
