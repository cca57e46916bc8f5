"""The lanes of a timeline that are bands: faults by what they hit, sections by owner. Pure."""

from collections.abc import Iterator, Sequence

from real_cluster.measured import Measured, Owning, Round, Strike
from real_cluster.svg import box, element, hover, label, line
from real_cluster.timeline_view import PLOT, Lane, View, clock, milliseconds

GROUPS = ("owners", "replicas", "etcd", "arbiters", "callers", "everything")
FAULTS, OWNERS = 26.0, 26.0
_LETTER = 6.2
"""How wide a letter is, generously."""
_SHADES = 5
LABELLED_S = 1200.0
"""In a longer view names and numbers stand only where a band has room for them."""
CROWDED = 200
"""More changes of one node than this are not drawn one by one."""


def groups(measured: Measured) -> list[str]:
    """Those that were hit, in the order of their lanes."""
    hit = {strike.group for one in measured.rounds for strike in one.strikes}
    return [*(group for group in GROUPS if group in hit), *sorted(hit - set(GROUPS))]


def faults(view: View, group: str) -> Lane:
    shown = [
        _Band(view, one, strike, row, len(rows))
        for one in view.measured.rounds
        if view.shows(one.began_s, view.until(one.flowing_s))
        for rows in [[strike for strike in one.strikes if strike.group == group]]
        for row, strike in enumerate(rows)
    ]
    free_until = [*(band.left for band in shown[1:]), float(PLOT)]
    bands = [band.drawn(limit) for band, limit in zip(shown, free_until, strict=False)]
    name = [box(0, 8.5, 10, 10, "band", rx=3), label(16, 18, group, "lane")]
    gutter = element("g", *name, class_=f"of-{group}")
    return Lane(FAULTS, gutter, _floor(FAULTS) + "".join(bands))


def shades(view: View, top: float, bottom: float) -> str:
    """Behind the charts: when any fault held, and until numbers flowed again."""
    drawn = []
    for one in view.measured.rounds:
        healed_s, flowing_s = view.until(one.healed_s), view.until(one.flowing_s)
        if view.shows(one.began_s, flowing_s):
            left, middle, right = (view.x(s) for s in (one.began_s, healed_s, flowing_s))
            drawn.append(box(left, top, middle - left, bottom - top, "shade"))
            drawn.append(box(middle, top, right - middle, bottom - top, "shade after"))
    return "".join(drawn)


def story(measured: Measured, one: Round) -> str:
    """A round in a few lines."""
    healed_s = measured.length_s if one.healed_s is None else one.healed_s
    lines = [f"{one.number}. {one.what}"]
    lines.append(f"{clock(one.began_s, 1)} to {clock(healed_s, 1)}")
    if one.flowing_s is not None:
        lines.append(f"every number flows {one.flowing_s - healed_s:.1f} s later")
    lines.append(f"longest gap {one.longest_gap_s:.1f} s, p99 {milliseconds(one.p99_ms)}")
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(one.reasons.items()))
    lines.append(
        f"{one.failed} of {one.answered + one.failed} calls failed: {reasons}".rstrip(": ")
    )
    return "\n".join(lines)


class _Band:
    """One fault in its lane, of which it has a share where others of its round hit the same."""

    def __init__(self, view: View, one: Round, strike: Strike, row: int, rows: int) -> None:
        self._view, self._one, self._strike = view, one, strike
        self._height = (FAULTS - 6) / rows
        self._y = 3 + row * self._height
        self.left = view.x(strike.at_s)
        self._middle = view.x(view.until(one.healed_s))
        self._right = view.x(view.until(one.flowing_s))
        self._name = strike.kind.partition(": ")[2] or strike.kind

    def drawn(self, free_until: float) -> str:
        """free_until: where the next band of the lane begins."""
        y, height, width = self._y, self._height - 1, max(self._middle - self.left, 2.0)
        parts = [hover(story(self._view.measured, self._one))]
        if self._right > self._middle:
            parts.append(box(self._middle, y, self._right - self._middle, height, "tail"))
        parts.append(box(self.left, y, width, height, "band", rx=min(3.0, width / 2)))
        if height >= 12:
            parts += self._labels(width, free_until)
        return element("g", *parts, class_=f"fault of-{self._strike.group}")

    def _labels(self, width: float, free_until: float) -> Iterator[str]:
        """Number and name inside, else the name behind it, as there is room."""
        y, number = self._y + self._height / 2 + 3.5, str(self._one.number)
        both, room = f"{number} {self._name}", free_until - self._right
        if _fits(both, width):
            inside, behind = both, [""]
        elif _fits(number, width):
            inside, behind = number, [self._name]
        else:
            inside, behind = "", [both, number]
        if inside:
            yield label(self.left + width / 2, y, inside, "on-band")
        if self._view.length_s > LABELLED_S:
            return
        if text := next((text for text in behind if text and _fits(text, room)), ""):
            yield label(self._right + 4, y, text, "by-band")


def _fits(text: str, width: float) -> bool:
    return len(text) * _LETTER + 6 <= width


# -- owners


def owners(view: View, node: str) -> Lane:
    """Coloured by how many sections callers were led to there; a tick at each change.

    Where changes are too many to be told apart, each column has the mean.
    """
    most = _darkest(view.measured)
    spans = [
        (from_s, to_s, count)
        for from_s, to_s, count in _spans(view.measured.ownings, node, view.measured.length_s)
        if view.shows(from_s, to_s)
    ]
    if len(spans) > CROWDED:
        drawn = list(_means(view, spans, most))
    else:
        drawn = [_span(view, *span, most) for span in spans if span[2]]
        drawn += [_tick(view, o, node) for o in view.measured.ownings if _touches(view, o, node)]
    return Lane(OWNERS, label(0, 18, node, "lane plain"), _floor(OWNERS) + "".join(drawn))


def _darkest(measured: Measured) -> int:
    """So many sections have the darkest shade: twice a fair share, or more if any node had."""
    held = [one.sections.values() for one in measured.ownings if one.sections]
    most = max((max(counts) for counts in held), default=1)
    total = max((sum(counts) for counts in held), default=1)
    return max(most, 2 * total // max(len(measured.nodes), 1))


def _spans(
    ownings: Sequence[Owning], node: str, length_s: float
) -> Iterator[tuple[float, float, int]]:
    """From, to, sections; neighbours with the same number as one."""
    from_s, held = 0.0, 0
    for one in ownings:
        count = one.sections.get(node, 0)
        if count != held:
            yield from_s, one.at_s, held
            from_s, held = one.at_s, count
    yield from_s, length_s, held


def _means(view: View, spans: Sequence[tuple[float, float, int]], most: int) -> Iterator[str]:
    """One box for each column with the mean of its time; both are in order."""
    at = 0
    for one in view.bins:
        while at < len(spans) - 1 and spans[at][1] <= one.from_s:
            at += 1
        held, changes, index = 0.0, -1, at
        while index < len(spans) and spans[index][0] < one.to_s:
            from_s, to_s, count = spans[index]
            held += count * max(min(to_s, one.to_s) - max(from_s, one.from_s), 0.0)
            changes, index = changes + 1, index + 1
        mean = held / (one.to_s - one.from_s)
        if mean >= 0.5:
            left, right = view.x(one.from_s), view.x(one.to_s)
            what = f"{clock(one.from_s)}: {mean:.0f} sections on average, {max(changes, 0)} changes"
            shade = f"held-{-(-round(mean) * _SHADES // most)}"
            yield box(left, 5, right - left + 0.2, OWNERS - 9, shade, hover(what))


def _span(view: View, from_s: float, to_s: float, count: int, most: int) -> str:
    left, right = view.x(from_s), view.x(to_s)
    shade = -(-count * _SHADES // most)
    what = f"{count} sections, {clock(from_s, 1)} to {clock(to_s, 1)}"
    parts = [hover(what), box(left, 5, right - left, OWNERS - 9, f"held-{shade}")]
    if right - left > 18:
        parts.append(label((left + right) / 2, 18, str(count), f"on-{shade}"))
    return element("g", *parts, class_="owning")


def _touches(view: View, one: Owning, node: str) -> bool:
    changed = node in one.gained or node in one.lost
    return changed and view.shows(one.at_s, one.at_s)


def _tick(view: View, one: Owning, node: str) -> str:
    gained, lost = one.gained.get(node, 0), one.lost.get(node, 0)
    what = f"{clock(one.at_s, 1)}: {node} gained {gained} and lost {lost} sections"
    x = view.x(one.at_s)
    top, bottom = (1.0 if gained else 5.0), (OWNERS if lost else OWNERS - 4)
    parts = [hover(what), line(x, top, x, bottom, "aim"), line(x, top, x, bottom, "tick")]
    return element("g", *parts)


def _floor(height: float) -> str:
    return line(0, height, PLOT, height, "floor faint")
