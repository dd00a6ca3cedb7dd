"""What the searches of a run need of a worker's memory: looked at before they run, and before the training already."""

from __future__ import annotations

from recsys_spark.bridges.worker_memory import Need
from recsys_spark.config import Config


def require_score_fits(config: Config, *, num_items: int, dim: int, num_segments: int) -> None:
    """Raise the typed error when a block of users of jobs/score.py cannot fit a worker."""
    need = Need(
        num_items=num_items,
        dim=dim,
        top_k=config.score.top_k,
        num_rules=len(config.seen_rules),
        num_segments=num_segments,
        num_caps=len(config.rules.caps),
        is_checked=config.score.checked_share > 0,
    )
    _require_fit(config, need)


def require_similar_items_fit(config: Config, *, num_items: int, dim: int) -> None:
    """Raise the typed error when a block of items of jobs/similar_items.py cannot fit a worker."""
    _require_fit(config, _need_of_others(config, num_items, dim, config.similar.top_k))


def require_similar_users_fit(config: Config, *, num_users: int, dim: int, longest_id: int) -> None:
    """Raise the typed error when a block of jobs/similar_users.py cannot; `longest_id` is in bytes."""
    _require_fit(config, _need_of_others(config, num_users, dim, config.similar.top_users + 1, longest_id))


def _need_of_others(config: Config, num_items: int, dim: int, top_k: int, longest_id: int = 0) -> Need:
    return Need(
        num_items=num_items,
        dim=dim,
        top_k=top_k,
        num_rules=1,
        num_segments=0,
        num_caps=0,
        is_checked=config.score.checked_share > 0,
        longest_id=longest_id,
    )


def _require_fit(config: Config, need: Need) -> None:
    need.require_fit(config.score.user_block, worker_mib=config.score.worker_mib)
