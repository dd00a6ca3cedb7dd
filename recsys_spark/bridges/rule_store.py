"""SEGMENTS and ITEM_GROUPS as the kernels want them, in the order of an item matrix, mapped into every worker."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_spark import columns as c
from recsys_spark.bridges.item_store import explain_full_disk, name_on_shelf, on_shelf, share_item_matrix
from recsys_spark.bridges.snapshot import Snapshot, read_batches
from recsys_spark.errors import problem
from recsys_spark.kernels.caps import Caps
from recsys_spark.kernels.exclusions import ByteArray
from recsys_spark.kernels.item_matrix import Int32Array, blank_file
from recsys_spark.transforms.rules import WORD_ITEMS

_FORMAT: Final = "2"
"""Part of a folder's name: raise it when something else is written."""

_COLUMNS: Final = [c.SEGMENT, c.ALLOWED, c.BARRED_BY]
_SEGMENTS_AT_A_TIME: Final = 16
_ITEMS_AT_A_TIME: Final = 2**16


@dataclass(frozen=True)
class RuleTables:
    """Snapshots of one run's SEGMENTS and ITEM_GROUPS, and how many items of a group each cap allows; plain values."""

    segments: Snapshot
    groups: Snapshot
    most: tuple[int, ...]


class Segments(NamedTuple):
    """G segments: the place of each number, what is barred for each (bits of rows of the item matrix, as in
    kernels/exclusions.py; G = 0 when nothing is barred for any), and by which conditions, in words."""

    places: dict[int, int]
    barred_GB: ByteArray
    reasons_G: list[str]


@lru_cache(maxsize=1)
def share_segments(segments: Snapshot, items: Snapshot, column: str) -> Segments:
    """Rows of SEGMENTS (segment, allowed, barred_by) over the item matrix of `items` and `column`.

    An item that SEGMENTS knows nothing of is barred.
    """

    def build(folder: Path) -> None:
        matrix = share_item_matrix(items, column)
        idx_M = matrix.idx_of_place_M[matrix.place_N[: matrix.num_items]]  # in the order of the rows
        shape = (segments.rows, len(matrix.steps_ND) // 8)
        with explain_full_disk(folder, shape[0] * shape[1]):
            barred_GB = blank_file(folder / "barred.npy", shape, np.uint8)
        numbers: list[int] = []
        reasons: list[str] = []
        for batch in read_batches(segments, _COLUMNS, _SEGMENTS_AT_A_TIME):
            told = (batch.column(0).to_pylist(), batch.column(1), batch.column(2).to_pylist())
            for number, allowed, barred_by in zip(*told, strict=True):
                barred_GB[len(numbers)] = _barred_bits(allowed.values, idx_M, shape[1])
                numbers.append(number)
                reasons.append(_in_words(barred_by))
        (folder / "segments.json").write_text(json.dumps([numbers, reasons]))

    folder = on_shelf(name_on_shelf(segments, _FORMAT, name_on_shelf(items), column), build)
    numbers, reasons = json.loads((folder / "segments.json").read_text())
    barred_GB = np.load(folder / "barred.npy", mmap_mode="r")
    places = {number: place for place, number in enumerate(numbers)}
    return Segments(places, barred_GB if barred_GB.any() else barred_GB[:0], reasons)


@lru_cache(maxsize=1)
def share_caps(groups: Snapshot, num_caps: int, items: Snapshot, column: str) -> Caps:
    """Rows of ITEM_GROUPS (item_idx, groups) over the item matrix; an item without a row has no group.

    Raises the typed error when there are no rows: caps were added since the table was written.
    """
    if not groups.rows:
        raise problem(
            f"table {groups.table}",
            wanted=f"each item's groups for {num_caps} caps (rules.caps)",
            found="no rows",
            do="Run jobs/apply_rules.py again with the same configuration.",
        )

    def build(folder: Path) -> None:
        matrix = share_item_matrix(items, column)
        groups_CI = np.full((num_caps, len(matrix.row_of_idx_I)), -1, dtype=np.int32)
        rows = pa.Table.from_batches(read_batches(groups, [c.ITEM_IDX, c.GROUPS], _ITEMS_AT_A_TIME))
        idx_P = rows.column(0).to_numpy()
        is_known_P = idx_P < groups_CI.shape[1]
        for cap in range(num_caps):
            hashes = pc.list_element(rows.column(1).combine_chunks(), cap)
            numbers_P = hashes.dictionary_encode().indices.fill_null(-1).to_numpy()
            groups_CI[cap, idx_P[is_known_P]] = numbers_P[is_known_P]
        caps = Caps.of(groups_CI[:, matrix.idx_of_place_M], matrix)
        with explain_full_disk(folder, sum(array.nbytes for array in caps)):
            for name, array in caps._asdict().items():
                blank_file(folder / f"{name}.npy", array.shape, array.dtype)[:] = array

    folder = on_shelf(name_on_shelf(groups, _FORMAT, str(num_caps), name_on_shelf(items), column), build)
    return Caps(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in Caps._fields))


def _barred_bits(allowed: pa.StructArray, idx_M: Int32Array, num_bytes: int) -> ByteArray:
    """Bits of the matrix's rows, whose item_idx are `idx_M`, from SEGMENTS.allowed: what is not allowed is barred."""
    words_W, bits_W = (allowed.field(name).to_numpy() for name in ("word", "bits"))
    is_inside_W = words_W <= idx_M.max(initial=0) // WORD_ITEMS
    bits = np.zeros(int(idx_M.max(initial=0)) // WORD_ITEMS + 1, dtype="<i8")
    bits[words_W[is_inside_W]] = bits_W[is_inside_W]
    is_allowed_I = np.unpackbits(bits.view(np.uint8), bitorder="little")
    is_barred_N = np.zeros(8 * num_bytes, dtype=np.uint8)
    is_barred_N[: len(idx_M)] = 1 - is_allowed_I[idx_M]
    return np.packbits(is_barred_N, bitorder="little")


def _in_words(barred_by: Sequence[tuple[str, int]]) -> str:
    """`no_fuel 1,200, in_stock 40`: conditions that bar something, the one that bars most first."""
    most_first = sorted(barred_by, key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{name} {count:,}" for name, count in most_first if count)
