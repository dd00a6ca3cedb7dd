"""A run proves that it is exact: a sample of its lists is worked out once more in float64 (kernels/oracle.py)."""

from __future__ import annotations

import zlib

import numpy as np
import pyarrow as pa

from recsys_spark.errors import problem
from recsys_spark.kernels.caps import Caps
from recsys_spark.kernels.exclusions import Exclusions
from recsys_spark.kernels.item_matrix import Int64Array, ItemMatrix
from recsys_spark.kernels.oracle import oracle_keys
from recsys_spark.kernels.top_k import TopLists, Users

_NO_LIMITS: Int64Array = np.empty(0, dtype=np.int64)


def require_exact(
    found: TopLists,
    users: Users,
    user_ids: pa.Array,
    items: ItemMatrix,
    *,
    share: float,
    excluded: Exclusions,
    caps: Caps | None = None,
    most_C: Int64Array = _NO_LIMITS,
    under: str = "",
) -> None:
    """Raise the typed error when a list of about `share` of the users is another one than float64 gives.

    The same users are looked at whatever the layout: those with the smallest hashes of their ids. `under` says which
    lists of theirs these are.
    """
    checked_S = _sample(user_ids, share)
    found_SK = found.keys_UK[checked_S]
    wanted_SK = oracle_keys(
        users.vectors_UD[checked_S], items, top_k=found_SK.shape[1], excluded=excluded.of_users(checked_S),
        caps=caps, most_C=most_C,
    )  # fmt: skip
    differing_S = np.flatnonzero((found_SK != wanted_SK).any(axis=1))
    if len(differing_S):
        raise problem(
            f"scores of {user_ids[int(checked_S[differing_S[0]])]}{under}",
            wanted="the list that float64 products of all give (score.checked_share)",
            found=f"another one; so for {len(differing_S)} of {len(checked_S)} checked in a block",
            do="This processor or a library on it computes wrongly, or the search has a fault: please report it.",
        )


def _sample(user_ids: pa.Array, share: float) -> Int64Array:
    """The places of the ids whose hash is below a share of all hashes."""
    if not share:
        return np.empty(0, dtype=np.int64)
    hashes_U = np.array([zlib.crc32(user_id.encode()) for user_id in user_ids.to_pylist()])
    return np.flatnonzero(hashes_U < share * 2**32)
