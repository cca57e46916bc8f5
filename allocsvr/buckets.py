"""What one caller may take per second: token buckets that lend. Pure.

A request is let in whole as long as its caller owes nothing, whatever it asks for, and what it took
beyond the bucket is paid back before the next one. So a batch larger than a second's worth is
served, only less often; no caller gets more than its rate in the long run, nor more at once than
`BURST_S` of it and one request; and none is told to come back for the rest of a batch.
"""

from dataclasses import dataclass

BURST_S = 1.0
"""How many seconds of its rate a bucket holds."""


class Bucket:
    """per_s: above 0. Full at first."""

    __slots__ = ("_at_s", "_level", "per_s")

    def __init__(self, per_s: float, now_s: float) -> None:
        self.per_s = per_s
        self._level = per_s * BURST_S
        self._at_s = now_s

    def wait_s(self, now_s: float) -> float:
        """Seconds until it lets a request in; 0: now."""
        self._refill(now_s)
        # Of two requests a second the third within the first is one too many, so a whole one is
        # needed; where a bucket holds less than one, all of it.
        missing = min(1.0, self.per_s * BURST_S) - self._level
        return missing / self.per_s if missing > 1e-9 else 0.0

    def take(self, amount: float) -> None:
        """Lend what it does not hold."""
        self._level -= amount

    def is_full(self, now_s: float) -> bool:
        self._refill(now_s)
        return self._level >= self.per_s * BURST_S

    def _refill(self, now_s: float) -> None:
        passed_s = max(0.0, now_s - self._at_s)
        self._level = min(self._level + passed_s * self.per_s, self.per_s * BURST_S)
        self._at_s = now_s


@dataclass(frozen=True, slots=True)
class Rates:
    """Per second; 0: any number."""

    requests_per_s: float = 0.0
    numbers_per_s: float = 0.0


class Purse:
    """The buckets of one caller."""

    __slots__ = ("_numbers", "_requests", "rates")

    def __init__(self, rates: Rates, now_s: float) -> None:
        self.rates = rates
        self._requests = _bucket(rates.requests_per_s, now_s)
        self._numbers = _bucket(rates.numbers_per_s, now_s)

    def pay(self, numbers: int, now_s: float) -> tuple[str, float]:
        """Pay for a request that takes so many numbers, if it may be made now.

        Returns ("", 0), or which rate is used up and after how many seconds to come again; then
        nothing was paid. A request for no numbers is not held up by numbers.
        """
        requests, taken = self._requests, self._numbers
        if requests is not None and (wait_s := requests.wait_s(now_s)):
            return "requests-per-s", wait_s
        if numbers and taken is not None:
            if wait_s := taken.wait_s(now_s):
                return "numbers-per-s", wait_s
            taken.take(numbers)
        if requests is not None:
            requests.take(1)
        return "", 0.0

    def is_full(self, now_s: float) -> bool:
        """Whether it may be forgotten: a new one is the same."""
        return all(b is None or b.is_full(now_s) for b in (self._requests, self._numbers))


def _bucket(per_s: float, now_s: float) -> Bucket | None:
    return Bucket(per_s, now_s) if per_s else None
