"""What one Python worker needs at most to search the item matrix, and to make it, worked out before a stage runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from recsys_spark.errors import problem
from recsys_spark.kernels.caps import FETCH, MAX_BITS_BYTES
from recsys_spark.kernels.oracle import oracle_bytes
from recsys_spark.kernels.top_k import search_bytes
from recsys_spark.tables.session import ARROW_BATCH_BYTES

MAX_BLOCK_PAIRS: Final = 2**20
"""Seen items of the users searched for at a time: blocks with more are split, so that their memory has a bound."""

_LIBRARY_BYTES: Final = 400 * 2**20
"""Private memory of a worker with torch, numba and pyarrow loaded and the loops compiled: 333 MiB were measured."""

_PLACE_BYTES: Final = 52
_USUAL_ID_BYTES: Final = 40
"""Per item while a machine's first worker orders the ids: its number and its place, and two copies of its id."""

_GROUPS_BYTES: Final = 64
_CAP_BYTES: Final = 32
"""Per item while it puts groups in order: one cap's groups with what they are made from, and what each cap adds."""


@dataclass(frozen=True)
class Need:
    """The sizes that the bound depends on. The item matrix is not in it: it is mapped, and shared by the machine."""

    num_items: int
    dim: int
    top_k: int
    num_rules: int
    num_segments: int
    num_caps: int
    is_checked: bool = False
    """Whether lists are worked out in float64 too."""
    longest_id: int = 0
    """Bytes of the longest id, where lists hold ids and not numbers."""

    def bytes_for(self, user_block: int) -> int:
        """The libraries, and then the building of the item matrix or a block.

        Of a block in Arrow: what Spark sent (half of its limit, and a batch of about that; once more when joined),
        vectors, lists (20 bytes a listed item and rule; its id twice), and the pairs that each rule excludes. Beside
        that the search, or the order of the caps' groups, or a user's list by float64. The search with caps has, for
        users who are searched for again, bits of their own, and a count for each group, of which there may be as many
        as items.
        """
        top_k = min(self.top_k, self.num_items)  # no list is longer
        listed = 32 + 2 * self.longest_id if self.longest_id else 20
        of_arrow = (
            user_block * (8 * self.dim + listed * top_k * self.num_rules + 64)
            + (16 + 16 * self.num_rules) * MAX_BLOCK_PAIRS
            + 3 * ARROW_BATCH_BYTES
        )
        of_search = search_bytes(
            user_block,
            dim=self.dim,
            top_k=min(FETCH * top_k, self.num_items) if self.num_caps else top_k,
            num_excluded=MAX_BLOCK_PAIRS,
            num_segments=user_block if self.num_caps else self.num_segments,
        )
        of_search += MAX_BITS_BYTES + 8 * self.num_items if self.num_caps else 0
        of_groups = self.num_items * (_GROUPS_BYTES + _CAP_BYTES * self.num_caps) if self.num_caps else 0
        of_check = of_search + oracle_bytes(self.num_items, self.dim) if self.is_checked else 0
        of_block = of_arrow + max(of_search, of_groups, of_check)
        return max(_LIBRARY_BYTES + of_block, building_bytes(self.num_items, longest_id=self.longest_id))

    def require_fit(self, user_block: int, *, worker_mib: int) -> None:
        """Raise the typed error when a block of users cannot fit a worker; it names a block, or a size, that does."""
        needed = self.bytes_for(user_block)
        if needed <= worker_mib * 2**20:
            return
        fitting = next((block for block in _halves(user_block) if self.bytes_for(block) <= worker_mib * 2**20), None)
        raise problem(
            "configuration, score.user_block",
            wanted=f"what fits score.worker_mib = {worker_mib:,} at {self.dim} dimensions and top_k = {self.top_k:,}",
            found=f"{user_block:,} users, which need {_mib(needed):,} MiB",
            do=f"--set score.user_block={fitting}, or give workers more (score.worker_mib)."
            if fitting
            else f"--set score.worker_mib={_mib(needed)}, with as much memory for each Python worker.",
        )


def building_bytes(num_items: int, *, longest_id: int = 0) -> int:
    """What a machine's first worker needs to make the item matrix: it orders the ids. The matrix itself is mapped."""
    return _LIBRARY_BYTES + num_items * (_PLACE_BYTES + 2 * max(longest_id, _USUAL_ID_BYTES))


def require_building_fits(num_items: int, *, worker_mib: int) -> None:
    """Raise the typed error when a worker cannot make the matrix of that many items; it names a size that does."""
    needed = building_bytes(num_items)
    if needed > worker_mib * 2**20:
        raise problem(
            "configuration, score.worker_mib",
            wanted=f"at least {_mib(needed):,}, to make the matrix of {num_items:,} items",
            found=f"{worker_mib:,}",
            do=f"--set score.worker_mib={_mib(needed)}, with as much memory for each Python worker.",
        )


def _halves(block: int) -> list[int]:
    return [block >> shift for shift in range(1, block.bit_length())]


def _mib(num_bytes: int) -> int:
    return -(-num_bytes // 2**20)
