"""Seen rules: whether a list may hold what the user has had before."""

from __future__ import annotations

import math
import re
from typing import Final

KEEP: Final = "keep"
DROP: Final = "drop"
_DROP_FOR_DAYS: Final = re.compile(r"drop for ([1-9][0-9]{0,4}) days")


def days_dropped(rule: str) -> float:
    """How many days an item stays out of a user's lists after the last time: 0 under keep, without end under drop.

    ValueError for what is neither of them nor `drop for N days`.
    """
    match = _DROP_FOR_DAYS.fullmatch(rule)
    if match:
        return float(match[1])
    if rule not in (KEEP, DROP):
        raise ValueError(f"wanted a seen rule: {KEEP}, {DROP}, or drop for N days; found {rule}")
    return 0.0 if rule == KEEP else math.inf
