"""A few pieces that the plots are made of: nice ticks, a frame with axes, text. Colours come from the page's style."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from recsys_spark.report.markup import Markup, tag


def drawing(width: float, height: float, title: str, *parts: str, class_: str | None = None) -> Markup:
    """A whole SVG picture; `title` is what a screen reader says."""
    return tag(
        "svg",
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=title,
        class_=class_,
    )


def label(x: float, y: float, text: str, *, class_: str = "tick", anchor: str = "start") -> Markup:
    return tag("text", text, x=float(x), y=float(y), class_=class_, text_anchor=None if anchor == "start" else anchor)


def line(x1: float, y1: float, x2: float, y2: float, *, class_: str) -> Markup:
    return tag("line", x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2), class_=class_)


def box(x: float, y: float, width: float, height: float, *, class_: str, hint: str = "", radius: float = 1) -> Markup:
    """A rectangle; `hint` appears under the mouse."""
    inside = (tag("title", hint),) if hint else ()
    return tag(
        "rect", *inside, x=float(x), y=float(y), width=max(float(width), 0.0), height=max(float(height), 0.0),
        rx=float(radius), class_=class_,
    )  # fmt: skip


def dot(x: float, y: float, *, class_: str, hint: str = "", radius: float = 3.5) -> Markup:
    return tag("circle", *((tag("title", hint),) if hint else ()), cx=float(x), cy=float(y), r=radius, class_=class_)


def path(points: Sequence[tuple[float, float]], *, class_: str) -> Markup:
    steps = " ".join(f"{'M' if i == 0 else 'L'}{x:.1f},{y:.1f}" for i, (x, y) in enumerate(points))
    return tag("path", d=steps, class_=class_)


def nice_ticks(low: float, high: float, num: int = 4) -> list[float]:
    """About `num` round numbers that cover [low, high]; the first is <= low, the last >= high.

    A range without width gets one of its own, so that every axis has two ticks at least.
    """
    if not math.isfinite(low) or not math.isfinite(high):
        return [0.0, 1.0]
    if high - low < 1e-12 * max(abs(low), abs(high), 1e-12):
        low, high = (0.0, 1.0) if high == 0 else (low - abs(low) / 10, high + abs(high) / 10)
    rough = (high - low) / num
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


@dataclass(frozen=True)
class Frame:
    """The plotting area of a picture and the two linear scales that fill it."""

    left: float
    top: float
    right: float
    bottom: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        low, high = self.x_range
        return self.left + (value - low) / (high - low) * (self.right - self.left)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.bottom - (value - low) / (high - low) * (self.bottom - self.top)

    def rows(self, ticks: Sequence[float], write: Callable[[float], str]) -> list[Markup]:
        """Horizontal grid lines with their values on the left; the lowest is the axis."""
        parts: list[Markup] = []
        for tick in ticks:
            is_axis = tick == self.y_range[0]
            parts.append(line(self.left, self.y(tick), self.right, self.y(tick), class_="axis" if is_axis else "grid"))
            parts.append(label(self.left - 6, self.y(tick) + 4, write(tick), anchor="end"))
        return parts

    def columns(self, ticks: Sequence[float], write: Callable[[float], str]) -> list[Markup]:
        """Values under the axis."""
        return [label(self.x(tick), self.bottom + 16, write(tick), anchor="middle") for tick in ticks]
