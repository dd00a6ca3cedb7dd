"""What a stage depends on besides its configuration: its code and the files it reads from outside."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
from collections.abc import Iterable

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
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.loader is not None, module
    return spec.loader.get_source(module) or ""  # type: ignore[attr-defined]  # every source loader has it


def _imports(source: str) -> Iterable[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in names if name.split(".")[0] in _OURS and _is_module(name))


def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # `package.module.CONSTANT`
        return False
