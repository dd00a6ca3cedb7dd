"""The loops over scores that numpy has no call for, compiled by numba: one tile of users x items at a time.

Everything exact is a whole number. A score is an integer n in [-2^24, 2^24], the product of two grid vectors in units
of 2^-24. Score and place (the item's number in the order of the item_ids) are packed into one uint64, so that "better"
is "smaller" and one comparison decides everything:

    key = (2^24 - n) << 32 | place

A tile is looked at in two steps: the largest value of every group of items (columns g, g + G, g + 2G, …: a pass that
the compiler turns into vector instructions), then the items of those groups that reach the user's floor.

No arrays are handed to functions within the loops over pairs, `dot` excepted, which the compiler takes in: numba counts
references to an array atomically, which took as long as scoring the pairs.

All of them stand in this one file: numba's cache notices changes of the file a function stands in, no others.

Axes: S users of a tile, T its items, G groups, U users of the block, L places for keys of a user, D dimensions.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from recsys_spark.kernels.compiled import compiled

KeyArray = npt.NDArray[np.uint64]

UNIT: Final = 2**24
"""Whole number of the score 1."""

LOWEST: Final = -(2**24) - 1
"""Below every score: nothing is passed over."""

NO_PAIR: Final = np.uint64(2**64 - 1)
"""The key of an empty place: worse than any pair."""

BLANK_PRODUCT: Final = -(2**31)
BLANK_SCORE: Final = -2.0
"""What stands in a tile for no pair (an excluded one, or padding): below every product of 8 bits, and every score."""

_HALF: Final = np.uint64(32)
_SLACK: Final = np.float32(2**-20)
"""Added to the bound of a coarse score for the float32 roundings in it: fewer than 16, each at most 2^-24, since the
numbers are below 2 (see MAX_DIM)."""


class Lists(NamedTuple):
    """What is known of each user's list.

    `keys_UL` holds the pairs kept so far, unordered, `counts_U` says how many; L is at least 2 K. Of more than L, only
    the K best are kept, and the K-th of them is the cut-off. `claims_U` is the score below which pairs were passed
    over: the list is proven once K of its pairs reach it.
    """

    keys_UL: KeyArray
    counts_U: npt.NDArray[np.int64]
    cutoffs_U: KeyArray
    claims_U: npt.NDArray[np.int64]


class CoarseSide(NamedTuple):
    """One side of a coarse tile: exact coordinates, scale, and error of its vectors (see kernels/item_matrix.py)."""

    steps_ND: npt.NDArray[np.int16]
    scale_N: npt.NDArray[np.float32]
    error_N: npt.NDArray[np.float32]


class Guess(NamedTuple):
    """How a user's claim is raised before a tile is looked at: the score of the `rank`-th best pair kept so far.

    `from_tile` takes it from the tile itself, for users who have fewer; it may be too high then. Rank 0 raises nothing.
    """

    rank: int
    from_tile: bool


@compiled
def pack_key(score: np.int64, place: np.uint32) -> np.uint64:
    return (np.uint64(UNIT - score) << _HALF) | np.uint64(place)


@compiled
def score_of(key: np.uint64) -> np.int64:
    return np.int64(UNIT) - np.int64(key >> _HALF)


@compiled
def dot(one_D: npt.NDArray[np.int16], other_D: npt.NDArray[np.int16]) -> np.int64:
    """The exact score of two grid vectors: every partial sum is at most 2^24 in size.

    numba adds 32-bit numbers as 64-bit ones; cast back, they become the processor's products of pairs of 16 bits.
    """
    total = np.int32(0)
    for d in range(one_D.shape[0]):
        total = np.int32(total + np.int32(one_D[d]) * np.int32(other_D[d]))
    return np.int64(total)


@compiled
def nth_largest(values_N: npt.NDArray[np.float32], rank: int) -> np.float32:
    """A value that at least `rank` values reach and hardly more: by bisection, much faster than by sorting."""
    low: np.float32 = values_N[0]
    high: np.float32 = values_N[0]
    for i in range(values_N.shape[0]):
        low, high = min(low, values_N[i]), max(high, values_N[i])
    for _ in range(16):
        middle = low + (high - low) * np.float32(0.5)
        reached = np.int32(0)
        for i in range(values_N.shape[0]):
            reached += np.int32(values_N[i] >= middle)
        if reached < rank:
            high = middle
        else:
            low = middle
            if reached <= rank + rank // 8:
                break
    return low


@compiled
def reaching(values_N: npt.NDArray[np.float32], level: np.float32, numbers_N: npt.NDArray[np.int32]) -> int:
    """Write down the numbers of the values that reach a level, in `numbers_N`; how many there are.

    Without a branch: the processor cannot guess which ones do.
    """
    count = 0
    for i in range(values_N.shape[0]):
        numbers_N[count] = i
        count += values_N[i] >= level
    return count


@compiled
def nth_best(keys_L: KeyArray, rank: int, scratch_L: npt.NDArray[np.float32]) -> np.int64:
    """A score that at least `rank` of the pairs reach, and hardly more."""
    for i in range(keys_L.shape[0]):
        scratch_L[i] = np.float32(score_of(keys_L[i]))  # exact: 24 bits
    return np.int64(np.floor(nth_largest(scratch_L[: keys_L.shape[0]], rank)))


@compiled
def floor_of(claim: np.int64, cutoff: np.uint64) -> np.int64:
    """The lowest score that may still enter a list."""
    return claim if cutoff == NO_PAIR else max(claim, score_of(cutoff))


@compiled
def keep_best(keys_L: KeyArray, top_k: int) -> np.uint64:
    """Bring the K best keys to the front; the K-th of them, which is the cut-off."""
    keys_L[:] = np.partition(keys_L, top_k - 1)
    cutoff: np.uint64 = keys_L[top_k - 1]
    return cutoff


@compiled
def raise_claim(
    claim: np.int64,
    kept_L: KeyArray,
    largest_G: npt.NDArray[np.float32],
    scale: np.float32,
    error: np.float32,
    guess: Guess,
    scratch_L: npt.NDArray[np.float32],
) -> np.int64:
    """A user's claim as `guess` raises it: from the pairs kept so far, or from the tile's largest values, which are
    scores when multiplied by `scale`, and at most `error` too high.
    """
    if 0 < guess.rank <= kept_L.shape[0]:
        return max(claim, nth_best(kept_L, guess.rank, scratch_L))
    if guess.from_tile and 0 < guess.rank <= largest_G.shape[0]:
        about = nth_largest(largest_G, guess.rank) * scale - error
        return max(claim, np.int64(max(about, np.float32(-1)) * UNIT))
    return claim


@compiled
def bound_groups(
    products_WG: npt.NDArray[Any],
    scale_WG: npt.NDArray[np.float32],
    spare: np.float32,
    least: np.float32,
    largest_G: npt.NDArray[np.float32],
) -> None:
    """Each group's largest bound, and at least `least`, from products of 8 bits; see `scan_coarse`."""
    for g in range(largest_G.shape[0]):
        largest_G[g] = max((np.float32(products_WG[0, g]) + spare) * scale_WG[0, g], least)
    for w in range(1, products_WG.shape[0]):
        for g in range(largest_G.shape[0]):
            bound = (np.float32(products_WG[w, g]) + spare) * scale_WG[w, g]
            largest_G[g] = bound if bound > largest_G[g] else largest_G[g]


@compiled
def largest_of_groups(scores_WG: npt.NDArray[np.float32], largest_G: npt.NDArray[np.float32]) -> None:
    """Each group's largest score."""
    for g in range(largest_G.shape[0]):
        largest_G[g] = scores_WG[0, g]
    for w in range(1, scores_WG.shape[0]):
        for g in range(largest_G.shape[0]):
            score = scores_WG[w, g]
            largest_G[g] = score if score > largest_G[g] else largest_G[g]


@compiled
def find_hits(
    products_WG: npt.NDArray[Any],
    scale_WG: npt.NDArray[np.float32],
    spare: np.float32,
    level: np.float32,
    largest_G: npt.NDArray[np.float32],
    groups_G: npt.NDArray[np.int32],
    hits_T: npt.NDArray[np.int32],
) -> int:
    """Write down, in `hits_T`, the items whose bound reaches a level; how many there are. `groups_G` is scratch."""
    num_hits = 0
    for i in range(reaching(largest_G, level, groups_G)):
        g = groups_G[i]
        for w in range(products_WG.shape[0]):
            hits_T[num_hits] = w * products_WG.shape[1] + g
            bound = (np.float32(products_WG[w, g]) + spare) * scale_WG[w, g]
            num_hits += (bound >= level) & (products_WG[w, g] != BLANK_PRODUCT)
    return num_hits


@compiled
def scan_coarse(
    products_ST: npt.NDArray[np.int32],
    first_user: int,
    users: CoarseSide,
    items: CoarseSide,
    places_T: npt.NDArray[np.uint32],
    lists: Lists,
    guess: Guess,
    top_k: int,
    groups: int,
    worst_error: np.float32,
    too_many: int,
) -> npt.NDArray[np.bool_]:
    """Keep every pair of the tile that may be listed, found by its 8-bit product and scored exactly.

    A user and an item, x = scale * coarse + rest on both sides, score at most

        scale * scale' * product + |scale * coarse| * error' + error,    |scale * coarse| <= 1 + error

    by Cauchy-Schwarz, vectors being no longer than 1. Of an item, error' <= scale' * `worst_error` (which is nearly the
    same for all items: about the root of D / 12). Pairs below the floor by this bound are passed over.

    Users for whom more than `too_many` items reach the floor are left alone, and marked in the result.
    """
    num_users, num_items = products_ST.shape
    products_SWG = products_ST.reshape(num_users, num_items // groups, groups)
    scale_WG = items.scale_N.reshape(num_items // groups, groups)
    is_left_S = np.zeros(num_users, dtype=np.bool_)
    largest_G = np.empty(groups, dtype=np.float32)
    groups_G = np.empty(groups, dtype=np.int32)
    hits_T = np.empty(num_items, dtype=np.int32)
    scratch_L = np.empty(lists.keys_UL.shape[1], dtype=np.float32)
    for s in range(num_users):
        user = first_user + s
        scale, error = users.scale_N[user], users.error_N[user]
        spare = (np.float32(1) + error) / scale * worst_error
        least = np.float32(-2) / scale  # lower than a score: blanks would spoil the bisection
        bound_groups(products_SWG[s], scale_WG, spare, least, largest_G)
        keys_L, count, cutoff = lists.keys_UL[user], lists.counts_U[user], lists.cutoffs_U[user]
        claim = raise_claim(lists.claims_U[user], keys_L[:count], largest_G, scale, items.error_N[0], guess, scratch_L)
        lists.claims_U[user] = claim
        floor = floor_of(claim, cutoff)
        level = (np.float32(floor) / np.float32(UNIT) - error - _SLACK) / scale
        num_hits = find_hits(products_SWG[s], scale_WG, spare, level, largest_G, groups_G, hits_T)
        if num_hits > too_many:
            is_left_S[s] = True
            continue
        for hit in range(num_hits):
            t = hits_T[hit]
            score = dot(users.steps_ND[user], items.steps_ND[t])
            key = pack_key(score, places_T[t])
            if score >= floor and key < cutoff:
                keys_L[count] = key
                count += 1
                if count == keys_L.shape[0]:
                    count, cutoff = top_k, keep_best(keys_L, top_k)
                    floor = floor_of(claim, cutoff)
        lists.counts_U[user], lists.cutoffs_U[user] = count, cutoff
    return is_left_S


@compiled
def scan_exact(
    scores_ST: npt.NDArray[np.float32],
    users_S: npt.NDArray[np.int64],
    places_T: npt.NDArray[np.uint32],
    lists: Lists,
    guess: Guess,
    top_k: int,
    groups: int,
) -> None:
    """Keep every pair of the tile that may be listed, from exact float32 scores: bounds of themselves."""
    num_items = scores_ST.shape[1]
    scores_SWG = scores_ST.reshape(len(users_S), num_items // groups, groups)
    ones_WG = np.ones((num_items // groups, groups), dtype=np.float32)
    one, nothing = np.float32(1), np.float32(0)
    largest_G = np.empty(groups, dtype=np.float32)
    groups_G = np.empty(groups, dtype=np.int32)
    hits_T = np.empty(num_items, dtype=np.int32)
    scratch_L = np.empty(lists.keys_UL.shape[1], dtype=np.float32)
    for s in range(len(users_S)):
        user = users_S[s]
        largest_of_groups(scores_SWG[s], largest_G)
        keys_L, count, cutoff = lists.keys_UL[user], lists.counts_U[user], lists.cutoffs_U[user]
        claim = raise_claim(lists.claims_U[user], keys_L[:count], largest_G, one, nothing, guess, scratch_L)
        lists.claims_U[user] = claim
        level = np.float32(floor_of(claim, cutoff)) / np.float32(UNIT)
        num_hits = find_hits(scores_SWG[s], ones_WG, nothing, level, largest_G, groups_G, hits_T)
        for hit in range(num_hits):
            t = hits_T[hit]
            score = scores_ST[s, t]
            key = pack_key(np.int64(score * np.float32(UNIT)), places_T[t])
            if score >= level and key < cutoff:
                keys_L[count] = key
                count += 1
                if count == keys_L.shape[0]:
                    count, cutoff = top_k, keep_best(keys_L, top_k)
                    level = np.float32(floor_of(claim, cutoff)) / np.float32(UNIT)
        lists.counts_U[user], lists.cutoffs_U[user] = count, cutoff


@compiled
def blank_pairs(
    tile_ST: npt.NDArray[Any],
    users_S: npt.NDArray[np.int64],
    offsets_U1: npt.NDArray[np.int64],
    rows_E: npt.NDArray[np.int64],
    start: int,
    blank: Any,
) -> None:
    """Blank each user's excluded items, rows_E[offsets_U1[u]:offsets_U1[u + 1]] in ascending order, in the tile of
    the items from `start` on."""
    for s in range(len(users_S)):
        first, last = offsets_U1[users_S[s]], offsets_U1[users_S[s] + 1]
        place = first + np.searchsorted(rows_E[first:last], start)
        while place < last and rows_E[place] < start + tile_ST.shape[1]:
            tile_ST[s, rows_E[place] - start] = blank
            place += 1


@compiled
def blank_barred(
    tile_ST: npt.NDArray[Any], segments_S: npt.NDArray[np.int64], is_barred_GT: npt.NDArray[np.uint8], blank: Any
) -> None:
    """Blank the items of the tile that are barred for each user's segment: without a branch, as half may be."""
    for s in range(len(segments_S)):
        row_T, is_barred_T = tile_ST[s], is_barred_GT[segments_S[s]]
        for t in range(row_T.shape[0]):
            value = row_T[t]
            row_T[t] = blank if is_barred_T[t] else value


@compiled
def merge_pairs(
    keys_UK: KeyArray,
    offsets_U1: npt.NDArray[np.int64],
    keys_E: KeyArray,
) -> None:
    """Let each user's pairs keys_E[offsets_U1[u]:offsets_U1[u + 1]] compete for the sorted list, in place."""
    top_k = keys_UK.shape[1]
    for user in range(len(keys_UK)):
        first, last = offsets_U1[user], offsets_U1[user + 1]
        if last > first:
            pool = np.concatenate((keys_UK[user], keys_E[first:last]))
            pool.sort()
            keys_UK[user] = pool[:top_k]


@compiled
def pair_keys(
    users_UD: npt.NDArray[np.int16],
    offsets_U1: npt.NDArray[np.int64],
    rows_E: npt.NDArray[np.int64],
    steps_ND: npt.NDArray[np.int16],
    places_N: npt.NDArray[np.uint32],
) -> KeyArray:
    """The keys of given pairs: user u and the items in rows_E[offsets_U1[u]:offsets_U1[u + 1]]."""
    keys_E = np.empty(len(rows_E), dtype=np.uint64)
    for user in range(len(users_UD)):
        for e in range(offsets_U1[user], offsets_U1[user + 1]):
            keys_E[e] = pack_key(dot(users_UD[user], steps_ND[rows_E[e]]), places_N[rows_E[e]])
    return keys_E
