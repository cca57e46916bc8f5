"""A run as a picture: what callers saw, what was done, who owned what, over one time axis.

Pure: measurements in, SVG out. Its colours are those of the page that it is put into (soak_report):
classes here, custom properties there.
"""

from collections.abc import Iterator

from real_cluster import timeline_bands as bands
from real_cluster import timeline_charts as charts
from real_cluster.measured import Check, Contradiction, Measured, SeenCall
from real_cluster.svg import box, element, hover, label, line
from real_cluster.timeline_view import GUTTER, PLOT, Lane, View, clock

MARKED = 3
"""Violations that the picture shows; more would hide each other."""

_MOST_CHECKS = 70
_VERDICT, _AXIS, _APART = 26.0, 24.0, 14.0


def timeline(measured: Measured, from_s: float, to_s: float) -> str:
    """These seconds, as a <div> with a gutter that stays and a plot that scrolls."""
    view = View(measured, from_s, to_s)
    stack = _Stack()
    stack.add(_verdict(view), apart=4)
    for chart in (charts.throughput, charts.failed, charts.latency):
        stack.add(chart(view), apart=_APART)
    under_charts = stack.height
    for group in bands.groups(measured):
        stack.add(bands.faults(view, group), apart=0)
    stack.space(_APART)
    for node in measured.nodes:
        stack.add(bands.owners(view, node), apart=0)
    bottom = stack.height
    stack.add(_axis(view), apart=0)
    behind = bands.shades(view, _VERDICT, under_charts) + _grid(view, bottom)
    before = charts.columns(view, under_charts - _APART) + _marks(view, bottom)
    return _framed(stack, behind, before, _spoken(view))


class _Stack:
    """Lanes below each other."""

    def __init__(self) -> None:
        self.height = 0.0
        self.gutter: list[str] = []
        self.plot: list[str] = []

    def add(self, lane: Lane, apart: float) -> None:
        place = f"translate(0 {self.height:.0f})"
        self.gutter.append(element("g", lane.gutter, transform=place))
        self.plot.append(element("g", lane.plot, transform=place))
        self.height += lane.height + apart

    def space(self, height: float) -> None:
        self.height += height


def _framed(stack: _Stack, behind: str, before: str, spoken: str) -> str:
    height = stack.height
    gutter = element(
        "svg", *stack.gutter, class_="gutter", width=GUTTER, height=height, aria_hidden="true"
    )
    plot = element(
        "svg", behind, *stack.plot, before, class_="plot", width=PLOT, height=height, role="img",
        aria_label=spoken,
    )  # fmt: skip
    return f'<div class="timeline" tabindex="0">{gutter}{plot}</div>'


def _spoken(view: View) -> str:
    """The picture for whoever does not see it; the tables say the rest."""
    done = view.measured
    return (
        f"Timeline from {clock(view.from_s)} to {clock(view.to_s)}: {len(done.rounds)} rounds of "
        f"faults, {done.failed} failed calls, {len(done.contradictions)} violations"
    )


def _axis(view: View) -> Lane:
    texts = [label(view.x(at_s), 17, clock(at_s), _anchored(view.x(at_s))) for at_s in view.ticks()]
    return Lane(_AXIS, label(0, 17, "min : s", "small"), "".join(texts))


def _anchored(x: float) -> str:
    """A text at an end of the plot stays inside."""
    return "axis first" if x < 12 else "axis last" if x > PLOT - 12 else "axis"


def _grid(view: View, bottom: float) -> str:
    return "".join(line(view.x(s), _VERDICT, view.x(s), bottom, "grid") for s in view.ticks())


# -- the verdict


def _verdict(view: View) -> Lane:
    # The last one is made when the run is over.
    end_s = view.measured.length_s
    timed = [(min(one.at_s, end_s), one) for one in view.measured.checks]
    inside = [one for at_s, one in timed if view.shows(at_s, at_s)]
    every = -(-len(inside) // _MOST_CHECKS) or 1
    shown = [one for i, one in enumerate(inside) if one.violations or i % every == 0]
    checks = "".join(_check(view, one) for one in shown)
    return Lane(_VERDICT, label(0, 18, "checked", "lane"), checks)


def _check(view: View, one: Check) -> str:
    mark, class_ = ("✗", "bad") if one.violations else ("✓", "good")
    x = min(max(view.x(one.at_s), 6.0), PLOT - 6.0)
    what = f"{clock(one.at_s)}: checked {one.calls} calls, {one.violations} violations"
    return element("g", hover(what), label(x, 18, mark, class_))


def _marks(view: View, bottom: float) -> str:
    """The calls that contradict each other, from top to bottom; the first ones hide the others."""
    found = view.measured.contradictions[:MARKED]
    marks = [
        mark
        for number, one in enumerate(found, start=1)
        for mark in _of(view, one, number if len(found) > 1 else None, bottom)
    ]
    return "".join(reversed(marks))


def _of(view: View, one: Contradiction, number: int | None, bottom: float) -> Iterator[str]:
    for letter, call in zip("ABCDEFGH", one.calls or _noticed(one), strict=False):
        if view.shows(call.began_s, call.answered_s):
            yield _mark(view, f"{number or ''}{letter if one.calls else '!'}", one, call, bottom)


def _noticed(one: Contradiction) -> list[SeenCall]:
    return [SeenCall(one.at_s, one.at_s, one.text)]


def _mark(view: View, name: str, one: Contradiction, call: SeenCall, bottom: float) -> str:
    began, answered = view.x(call.began_s), view.x(call.answered_s)
    later = not name.endswith("A")
    width = 8.0 + 7 * len(name)
    left = answered if later else answered - width
    left = min(max(left, 0.0), PLOT - width)
    what = f"{name}: {one.promise}, uid {one.uid}: {call.said}"
    when = f"began {clock(call.began_s, 3)}, answered {clock(call.answered_s, 3)}"
    return element(
        "g",
        hover(f"{what}\n{when}"),
        box(began, _VERDICT, answered - began, bottom - _VERDICT, "wrong-while"),
        line(answered, 4, answered, bottom, "wrong"),
        box(left, 4, width, 17, "wrong-flag", rx=2),
        label(left + width / 2, 16.5, name, "on-wrong"),
        class_="violation",
    )
