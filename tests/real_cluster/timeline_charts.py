"""The lanes of a timeline that are charts: answered and failed calls, latencies. Pure."""

import math
from collections.abc import Callable, Iterator

from real_cluster.svg import box, hover, label, line, path
from real_cluster.timeline_view import GUTTER, PLOT, Bin, Lane, View, clock, milliseconds

THROUGHPUT, FAILED, LATENCY = 118.0, 46.0, 104.0
_HEAD = 8.0
"""Free at the top of a chart, so that a peak does not touch what is above it."""


def throughput(view: View) -> Lane:
    top = _round_up(max((one.answered_per_s for one in view.bins), default=0.0) or 1.0)

    def y(value: float) -> float:
        return _HEAD + (THROUGHPUT - _HEAD) * (1 - value / top)

    steps = [(one.from_s, one.to_s, y(one.answered_per_s)) for one in view.bins]
    area = _area(view, steps, THROUGHPUT)
    grid = [line(0, y(value), PLOT, y(value), "grid") for value in (top / 2, top)]
    names = [_name("answered", THROUGHPUT), _under("calls per second")]
    scale = [_scale(y(value), f"{value:,.0f}".replace(",", " ")) for value in (0, top / 2, top)]
    return Lane(THROUGHPUT, "".join(names + scale), "".join([*grid, *area, _floor(THROUGHPUT)]))


def failed(view: View) -> Lane:
    worst = max((one.failed for one in view.bins), default=0)
    top = _round_up(float(worst)) if worst else 1.0
    usable = FAILED - _HEAD
    bars = [
        box(
            view.x(one.from_s),
            FAILED - max(one.failed / top * usable, 1.5),
            max(view.x(one.to_s) - view.x(one.from_s) - 0.4, 1.2),
            max(one.failed / top * usable, 1.5),
            "failed",
        )
        for one in view.bins
        if one.failed
    ]
    names = _name("failed", FAILED) + (_scale(_HEAD, f"{top:,.0f}") if worst else "")
    return Lane(FAILED, names, "".join(bars) + _floor(FAILED))


def latency(view: View) -> Lane:
    known = [one for one in view.bins if one.p50_ms is not None and one.p99_ms is not None]
    low, high = _decades(known)

    def y(ms: float) -> float:
        share = (math.log10(max(ms, 10**low)) - low) / (high - low)
        return _HEAD + (LATENCY - _HEAD) * (1 - min(share, 1.0))

    decades = [float(10**power) for power in range(low, high + 1)]
    grid = [line(0, y(ms), PLOT, y(ms), "grid") for ms in decades[1:]]
    between = path(_between(view, known, y), "spread")
    curves = [
        path(_curve(view, lambda one: one.p99_ms, y), "p99"),
        path(_curve(view, lambda one: one.p50_ms, y), "p50"),
    ]
    names = [_name("latency", LATENCY), _key("p99", 32, "p99"), _key("p50", 46, "p50")]
    scale = [_scale(y(ms), f"{ms / 1000:g} s" if ms >= 1000 else f"{ms:g} ms") for ms in decades]
    plot = "".join([*grid, between, *curves, _floor(LATENCY)])
    return Lane(LATENCY, "".join(names + scale), plot)


def columns(view: View, height: float) -> str:
    """Over all charts: what the numbers of each column are, where the mouse rests."""
    return "".join(
        box(
            view.x(one.from_s),
            0,
            view.x(one.to_s) - view.x(one.from_s),
            height,
            "column",
            hover(_said(one)),
        )
        for one in view.bins
    )


def _said(one: Bin) -> str:
    until = f" to {clock(one.to_s)}" if one.to_s - one.from_s > 1 else ""
    worst = "worst " * bool(until)
    return (
        f"{clock(one.from_s)}{until}: {one.answered_per_s:.0f} answered per second, "
        f"{one.failed} failed, p50 {milliseconds(one.p50_ms)}, "
        f"{worst}p99 {milliseconds(one.p99_ms)}"
    )


# -- curves


def _area(view: View, steps: list[tuple[float, float, float]], floor: float) -> list[str]:
    if not steps:
        return []
    outline = [f"{'L' if i else 'M'}{view.x(a):.1f} {y:.1f}H{view.x(b):.1f}" for i, (a, b, y) in
               enumerate(steps)]  # fmt: skip
    closed = [*outline, f"V{floor:.1f}H{view.x(steps[0][0]):.1f}Z"]
    return [path(closed, "area"), path(outline, "answered")]


def _curve(
    view: View, of: Callable[[Bin], float | None], y: Callable[[float], float]
) -> Iterator[str]:
    """Broken where there is nothing to show."""
    down = False
    for one in view.bins:
        value = of(one)
        if value is not None:
            yield f"{'L' if down else 'M'}{_middle(view, one):.1f} {y(value):.1f}"
            if not down:
                yield "h0.6"  # a single one is seen too
        down = value is not None


def _between(view: View, known: list[Bin], y: Callable[[float], float]) -> Iterator[str]:
    """A bar from p50 to p99 for each column."""
    for one in known:
        left, width = view.x(one.from_s), view.x(one.to_s) - view.x(one.from_s)
        top, bottom = y(one.p99_ms or 0), y(one.p50_ms or 0)
        yield f"M{left:.1f} {top:.1f}h{width:.1f}V{bottom:.1f}h{-width:.1f}Z"


def _middle(view: View, one: Bin) -> float:
    return view.x((one.from_s + one.to_s) / 2)


# -- scales


def _round_up(value: float) -> float:
    """The next of 1, 2, 3, 4, 5, 6, 8, 10 times a power of ten; at least 1."""
    power = 10.0 ** math.floor(math.log10(max(value, 1.0)))
    return next(step * power for step in (1, 2, 3, 4, 5, 6, 8, 10) if step * power >= value)


def _decades(known: list[Bin]) -> tuple[int, int]:
    """Powers of ten, in ms, that hold all latencies."""
    least = min((one.p50_ms or 1.0 for one in known), default=1.0)
    most = max((one.p99_ms or 1.0 for one in known), default=100.0)
    low = math.floor(math.log10(max(least, 0.1)))
    return low, max(math.ceil(math.log10(max(most, 1.0))), low + 2)


def _name(name: str, height: float) -> str:
    del height
    return label(0, 18, name, "lane")


def _under(name: str) -> str:
    return label(0, 32, name, "small")


def _key(name: str, y: float, class_: str) -> str:
    return line(0, y - 4, 14, y - 4, class_) + label(19, y, name, "small")


def _scale(y: float, value: str) -> str:
    return label(GUTTER - 8, y + 4, value, "scale")


def _floor(height: float) -> str:
    return line(0, height, PLOT, height, "floor")
