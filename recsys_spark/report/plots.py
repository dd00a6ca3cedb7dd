"""Facts -> pictures (SVG text). Each is drawn for a width that a phone shows one to one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Final

from recsys_spark.evaluation.verdict import RECOMMENDATIONS, TWO_TOWER
from recsys_spark.report.facts import BlendPoint, Figure, Histogram, Timeline, Week
from recsys_spark.report.markup import Markup
from recsys_spark.report.svg import Frame, box, dot, drawing, label, line, nice_ticks, path
from recsys_spark.report.words import count_of, method_name, number, order_of

NARROW: Final = 330.0
WIDE: Final = 1000.0
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def short(value: float) -> str:
    """1500 -> '1.5k', 40000 -> '40k', 3000000 -> '3M': for axes only."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.2f}".rstrip("0").rstrip(".") + letter
    return number(value)


def plain(value: float) -> str:
    """A tick of a fraction without needless zeros."""
    return f"{value:.4f}".rstrip("0").rstrip(".") if value % 1 else f"{value:.0f}"


# --- events per week -------------------------------------------------------------------------------------------------


def timeline_plot(timeline: Timeline, width: float) -> Markup:
    """Bars of events per week, the validation and test windows behind them, training cut-offs below."""
    weeks = timeline.weeks
    if not weeks:
        return _nothing("no events", width, class_="wide" if width == WIDE else "narrow")
    ticks = nice_ticks(0, max(week.events for week in weeks), 3)
    first = weeks[0].number * 7
    last = max((weeks[-1].number + 1) * 7, timeline.test_days)
    frame = Frame(44, 40, width - 8, 190, (first, last), (0, ticks[-1]))
    return drawing(
        width, 236, "Events per week with the windows of the split",
        *_windows(timeline, frame), *frame.rows(ticks, short), *_week_bars(weeks, timeline, frame),
        *_month_labels(weeks, frame), *_cut_offs(timeline, frame),
        class_="wide" if width == WIDE else "narrow",
    )  # fmt: skip


def _windows(timeline: Timeline, frame: Frame) -> list[Markup]:
    windows = (("validation", -timeline.validation_days, 0), ("test", 0, timeline.test_days))
    parts: list[Markup] = []
    for name, start, end in windows:
        left, right = frame.x(max(start, frame.x_range[0])), frame.x(min(end, frame.x_range[1]))
        if right <= left:
            continue
        parts.append(box(left, frame.top, right - left, frame.bottom - frame.top, class_=f"window {name}", radius=0))
        is_crowded = right - left < 115 and name == "validation"
        y = frame.top - (22 if is_crowded else 6)
        parts.append(label(right, y, f"{name} window", class_=f"tag {name}", anchor="end"))
    return parts


def _week_bars(weeks: Sequence[Week], timeline: Timeline, frame: Frame) -> list[Markup]:
    width = frame.x(7) - frame.x(0)
    gap = 0.22 * width
    parts = []
    for week in weeks:
        start = week.number * 7
        kind = "validation" if -timeline.validation_days <= start < 0 else "past"
        kind = "test" if 0 <= start < timeline.test_days else kind
        hint = f"week from {week.start}: {count_of(week.events, 'event')}"
        y = frame.y(week.events)
        parts.append(box(frame.x(start) + gap / 2, y, width - gap, frame.bottom - y, class_=f"bar {kind}", hint=hint))
    return parts


def _month_labels(weeks: Sequence[Week], frame: Frame) -> list[Markup]:
    """The month's name under its first week, as many as fit."""
    parts: list[Markup] = []
    free_from, month = 0.0, None
    for week in weeks:
        day = date.fromisoformat(week.start)
        if (day.year, day.month) == month:
            continue
        is_first, month = month is None, (day.year, day.month)
        x = frame.x(week.number * 7)
        if x >= free_from and x + 26 < frame.right:
            name = f"{_MONTHS[day.month - 1]} {day.year}" if is_first or day.month == 1 else _MONTHS[day.month - 1]
            parts.append(label(x, frame.bottom + 16, name))
            free_from = x + 8 * len(name) + 8
    return parts


def _cut_offs(timeline: Timeline, frame: Frame) -> list[Markup]:
    """A mark at each training cut-off."""
    parts: list[Markup] = []
    for back in range(1, timeline.train_cut_offs + 1):
        day = -timeline.validation_days - back * timeline.window_days
        if day >= frame.x_range[0]:
            x, y = frame.x(day), frame.bottom + 24
            parts.append(path([(x, y), (x - 4, y + 7), (x + 4, y + 7), (x, y)], class_="mark"))
    if parts:
        first = frame.x(-timeline.validation_days - len(parts) * timeline.window_days)
        parts.append(label(first - 6, frame.bottom + 44, f"{count_of(len(parts), 'training cut-off')}"))
    return parts


# --- histograms and curves -------------------------------------------------------------------------------------------


def histogram_plot(histogram: Histogram, *, title: str, unit: str, of: str) -> Markup:
    """Bars of a histogram; the last bin, where values are cut, has a colour of its own.

    Where that bin would press all others flat, the others set the scale and it carries its number instead.
    """
    if not any(histogram.counts):
        return _nothing("no rows")
    low, width, counts = histogram.low, histogram.width, histogram.counts
    high = low + width * len(counts)
    others = max(counts[:-1], default=0)
    is_cut = counts[-1] > 3 * others > 0
    ticks = nice_ticks(0, others if is_cut else max(counts), 3)
    frame = Frame(44, 26 if is_cut else 10, NARROW - 10, 160, (low, high), (0, ticks[-1]))
    cut = f"{number(counts[-1])} ↑" if is_cut else ""
    bars = [label(frame.right, frame.top - 10, cut, class_="value", anchor="end")]
    for i, count in enumerate(counts):
        start = low + i * width
        span = f"{start}" if width == 1 else f"{start}–{start + width - 1}"
        left, right = frame.x(start), frame.x(start + width)
        gap = min(2.0, 0.2 * (right - left))
        top = max(frame.y(count), frame.top - 6)
        bars.append(
            box(left + gap / 2, top, right - left - gap, frame.bottom - top,
                class_="bar past" if i < len(counts) - 1 else "bar full", hint=f"{span} {unit}: {count_of(count, of)}")
        )  # fmt: skip
    inside = [tick for tick in nice_ticks(low, high, 5) if low <= tick < high]
    middle = label((frame.left + frame.right) / 2, 196, unit, class_="name", anchor="middle")
    return drawing(NARROW, 204, title, *frame.rows(ticks, short), *bars, *frame.columns(inside, number), middle)


def curve_plot(points: Sequence[tuple[float, float]], *, title: str, unit: str, marks: bool) -> Markup:
    """A tracked metric; many points are drawn pale with their running mean on top, few ones as marks."""
    if not points:
        return _nothing("nothing was tracked")
    ticks = nice_ticks(min(y for _, y in points), max(y for _, y in points), 4)
    first, last = points[0][0], points[-1][0]
    pad = 0.06 * (last - first) if marks else 0.0
    x_range = (first - pad, last + pad) if last > first else (first - 1, first + 1)
    frame = Frame(48, 24, NARROW - 14, 164, x_range, (ticks[0], ticks[-1]))
    places = [(frame.x(x), frame.y(y)) for x, y in points]
    if marks:
        best = max(points, key=lambda point: point[1])
        drawn = [path(places, class_="curve")] + [
            dot(frame.x(x), frame.y(y), class_="point best" if (x, y) == best else "point",
                hint=f"{unit} {x:g}: {y:.4f}") for x, y in points
        ]  # fmt: skip
        drawn.append(_value_label(frame, best))
        columns = [x for x, _ in points][:: max(1, len(points) // 10)]
    else:
        drawn = [path(places, class_="curve pale"), path(_running_mean(places), class_="curve")]
        columns = [tick for tick in nice_ticks(first, last, 4) if first <= tick <= last]
    middle = label((frame.left + frame.right) / 2, 200, unit, class_="name", anchor="middle")
    return drawing(NARROW, 208, title, *frame.rows(ticks, plain), *drawn, *frame.columns(columns, short), middle)


def _value_label(frame: Frame, point: tuple[float, float]) -> Markup:
    """The best value, written above its mark."""
    x, y = frame.x(point[0]), frame.y(point[1])
    anchor = "end" if x > frame.right - 20 else "start" if x < frame.left + 20 else "middle"
    return label(x, y - 10, f"{point[1]:.4f}", class_="value", anchor=anchor)


def _running_mean(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The mean of each point and its neighbours, a twentieth of the curve wide."""
    reach = len(places) // 40
    smooth = []
    for i, (x, _) in enumerate(places):
        near = places[max(0, i - reach) : i + reach + 1]
        smooth.append((x, sum(y for _, y in near) / len(near)))
    return smooth


def blend_plot(points: Sequence[BlendPoint]) -> Markup:
    """Validation NDCG over the tried weights, one step apart each: they grow by factors, not by sums."""
    if not points:
        return _nothing("no blend was measured")
    ticks = nice_ticks(min(p.ndcg for p in points), max(p.ndcg for p in points), 4)
    frame = Frame(52, 24, NARROW - 14, 164, (-0.5, len(points) - 0.5), (ticks[0], ticks[-1]))
    best = max(range(len(points)), key=lambda i: (round(points[i].ndcg, 6), -i))
    places = [(frame.x(i), frame.y(point.ndcg)) for i, point in enumerate(points)]
    dots = [
        dot(*places[i], class_="point best" if i == best else "point",
            hint=f"weight {point.weight:g}: {point.ndcg:.4f}", radius=5 if i == best else 3.5)
        for i, point in enumerate(points)
    ]  # fmt: skip
    columns = [label(frame.x(i), frame.bottom + 16, f"{p.weight:g}", anchor="middle") for i, p in enumerate(points)]
    middle = label((frame.left + frame.right) / 2, 200, "weight of the two towers", class_="name", anchor="middle")
    return drawing(
        NARROW, 208, "Validation NDCG@10 for each weight of the two towers",
        *frame.rows(ticks, plain), path(places, class_="curve"), *dots,
        _value_label(frame, (best, points[best].ndcg)), *columns, middle,
    )  # fmt: skip


# --- methods ---------------------------------------------------------------------------------------------------------


def methods_plot(figures: Sequence[Figure], title: str) -> Markup:
    """One metric of every method as bars, with the 95 % interval as a whisker and the value at the end."""
    rows = sorted(figures, key=lambda figure: order_of(figure.method))
    highest = max((max(f.value, f.upper or 0.0) for f in rows), default=0.0)
    frame = Frame(0, 0, 236, 0, (0.0, highest or 1.0), (0, 1))
    best = max((f.value for f in rows), default=0.0)
    parts: list[Markup] = []
    for i, figure in enumerate(rows):
        y = i * 38.0
        kind = {RECOMMENDATIONS: "table", TWO_TOWER: "towers"}.get(figure.method, "baseline")
        is_best = figure.value == best and best > 0
        hint = f"{method_name(figure.method)}: {figure.value:.4f}"
        parts.append(label(0, y + 12, method_name(figure.method), class_=f"method {kind}"))
        parts.append(box(0, y + 17, frame.x(figure.value), 13, class_=f"bar {kind}", hint=hint, radius=1.5))
        end = frame.x(figure.value)
        if figure.lower is not None and figure.upper is not None:
            end = max(end, frame.x(figure.upper))
            parts.extend(_whisker(frame.x(figure.lower), frame.x(figure.upper), y + 23.5))
        parts.append(label(end + 7, y + 28, f"{figure.value:.4f}", class_="value best" if is_best else "value"))
    return drawing(300, max(38.0 * len(rows), 38.0), title, *parts)


def _whisker(left: float, right: float, y: float) -> list[Markup]:
    return [
        line(left, y, right, y, class_="whisker"),
        line(left, y - 3.5, left, y + 3.5, class_="whisker"),
        line(right, y - 3.5, right, y + 3.5, class_="whisker"),
    ]


def _nothing(text: str, width: float = NARROW, class_: str | None = None) -> Markup:
    middle = label(width / 2, 90, text, class_="name", anchor="middle")
    return drawing(width, 180, text, middle, class_=class_)
