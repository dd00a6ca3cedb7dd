"""The rows as one picture: who takes how many times the limit, and how our cost grows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

from benchmarks.score_rows import OURS, Machine, Row, rows_by_axis, slope

INK, SOFT, GRID, BLUE, GREY, ORANGE = "#1d2227", "#5b656e", "#ecebe5", "#0072b2", "#a3abb2", "#c9500a"
"""The report's colours (recsys_spark/report/style.py)."""

STYLE: Final[dict[Any, Any]] = {
    "font.family": "sans-serif", "font.size": 9, "text.color": INK, "axes.labelcolor": SOFT, "axes.edgecolor": GREY,
    "axes.spines.top": False, "axes.spines.right": False, "xtick.color": SOFT, "ytick.color": INK,
    "axes.titlesize": 10, "axes.titleweight": "bold", "axes.titlelocation": "left", "svg.fonttype": "none",
    "svg.hashsalt": "bench",
}  # fmt: skip
AXES: Final = {"users": "users", "items": "items", "dim": "dimensions", "top_k": "K"}
PARTS: Final = {"kernel": "Kernel, one thread", "spark": "Inside Spark, two cores"}


def draw(rows: Sequence[Row], machine: Machine, file: Path) -> None:
    """Bars of ratios for each part and width, then seconds by users, items, dimensions and K; SVG."""
    bars = bar_groups(rows)
    growing = rows_by_axis(rows)
    with plt.rc_context(STYLE):
        heights = (2.4 * -(-len(bars) // 2) or 0.1, 2.8 if growing else 0.1)  # inches of the two halves
        figure = plt.figure(figsize=(11, 0.4 + sum(heights)), layout="constrained")
        figure.suptitle(f"Exact top-K of every pair on {machine}", x=0.01, ha="left", color=SOFT, fontsize=9)
        top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=heights)[:, 0]
        for axes, (title, group) in zip(_grid(top, len(bars), columns=2), bars.items(), strict=False):
            _draw_bars(axes, title, group)
        for axes, (axis, of_axis) in zip(_grid(bottom, len(growing), columns=4), growing.items(), strict=False):
            _draw_growth(axes, axis, of_axis)
        figure.savefig(file, metadata={"Date": None})
        plt.close(figure)


def bar_groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Title of each picture and its rows, fastest first: the sizes at which ours met peers."""
    groups: dict[str, list[Row]] = {}
    for part, title in PARTS.items():
        for size in dict.fromkeys(row.size for row in rows if row.part == part and row.name != OURS):
            group = [row for row in rows if (row.part, row.size) == (part, size)]
            groups[f"{title}, {size.users:,} users, d = {size.dim}"] = sorted(group, key=lambda row: row.seconds)
    return groups


def _grid(figure: Any, count: int, *, columns: int) -> Sequence[Any]:
    if not count:
        return []
    axes = figure.subplots(-(-count // columns), columns, squeeze=False).ravel()
    for spare in axes[count:]:
        spare.set_visible(False)
    return list(axes)


def _draw_bars(axes: Any, title: str, rows: Sequence[Row]) -> None:
    names = [row.name for row in rows]
    axes.barh(names, [row.ratio for row in rows], color=[BLUE if name == OURS else GREY for name in names], height=0.65)
    axes.invert_yaxis()
    axes.axvline(1.0, color=ORANGE, linewidth=1.2)
    for place, row in enumerate(rows):
        axes.annotate(f"{row.ratio:.2f}x", (row.ratio, place), xytext=(4, 0), textcoords="offset points", va="center")
    axes.set(title=title, xlim=(0, 1.15 * max(row.ratio for row in rows)))
    axes.xaxis.set_major_formatter("{x:g}x")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("times the fastest float32 product (the line)")


def _draw_growth(axes: Any, axis: str, rows: Sequence[Row]) -> None:
    sizes, seconds = [getattr(row.size, axis) for row in rows], [row.seconds for row in rows]
    axes.loglog(sizes, seconds, "o-", color=BLUE, label="ours")
    axes.loglog(sizes, [row.seconds / row.ratio for row in rows], "--", color=ORANGE, linewidth=1, label="limit")
    axes.set(title=f"{AXES[axis]}: slope {slope(rows, axis):.2f}", xlabel=AXES[axis], ylabel="seconds")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_ylim(0.5 * min(row.seconds / row.ratio for row in rows), 2 * max(seconds))
    axes.grid(color=GRID)
    axes.legend(frameon=False, fontsize=8)
