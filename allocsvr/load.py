"""How busy a node is, smoothed: numbers per second, all together and by section. Pure.

Section.taken counts numbers as they are handed out; whoever samples it sets it back to 0. A rate
follows what is sampled with a time constant of SMOOTHING_S, so that the arbiter sees neither a
burst of a second nor what was an hour ago.
"""

from collections.abc import Iterable
from heapq import nlargest
from math import exp

from clustermap.nodes import MAX_HOT, Load

SMOOTHING_S = 5.0
_FORGOTTEN = 0.5  # numbers per second; below it a section counts as idle


class Rates:
    """Numbers per second of each section that has any."""

    def __init__(self) -> None:
        self._rates: dict[int, float] = {}

    def sample(self, taken: Iterable[tuple[int, int]], passed_s: float) -> None:
        """taken: (section, numbers) since the sample before, `passed_s` seconds (above 0) ago."""
        keep = exp(-passed_s / SMOOTHING_S)
        rates = {section: rate * keep for section, rate in self._rates.items()}
        for section, numbers in taken:
            rates[section] = rates.get(section, 0.0) + (1 - keep) * numbers / passed_s
        self._rates = {section: rate for section, rate in rates.items() if rate >= _FORGOTTEN}

    def load(self, *, serving: int, acquiring: int, leaving: int) -> Load:
        """As it is registered."""
        hot = nlargest(MAX_HOT, self._rates.items(), key=lambda item: item[1])
        return Load(
            round(sum(self._rates.values())),
            tuple((section, round(rate)) for section, rate in hot),
            serving,
            acquiring,
            leaving,
        )


def differs(told: Load, now: Load) -> bool:
    """Whether `now` would have the arbiter or an operator think otherwise than `told`."""
    counts = (told.serving, told.acquiring, told.leaving)
    if counts != (now.serving, now.acquiring, now.leaving):
        return True
    if _moved(told.per_second, now.per_second, now.per_second):
        return True
    before, after = dict(told.hot), dict(now.hot)
    return any(
        _moved(before.get(section, 0), after.get(section, 0), now.per_second)
        for section in before.keys() | after.keys()
    )


def _moved(before: int, after: int, whole: int) -> bool:
    """By more than a fifth, and by more than a twentieth of the node's load."""
    step = abs(after - before)
    return step > max(10, max(before, after) / 5, whole / 20)
