"""One finished call, as its caller saw it: what histories are made of."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Op = Literal["next", "current", "advance"]


@dataclass(slots=True)
class Call:
    """One finished call on one uid, as its caller saw it.

    Times are nanoseconds of one monotonic clock, shared by all calls that are compared.
    `seq` is the first of `count` numbers of a hand-out, or the answer of a current (its count is
    not looked at). An advance is a current that first saw to it that the answer is at_least or
    more; no other call has an at_least. epoch 0: not known. error: None if it was answered. where:
    file and line.
    """

    op: Op
    uid: int
    count: int
    call_ns: int
    return_ns: int
    seq: int
    exact: bool = False
    epoch: int = 0
    error: str | None = None
    where: tuple[str, int] = ("", 0)
    at_least: int = 0

    @property
    def base(self) -> int:
        """No number above it was out when the call took effect."""
        return self.seq - 1 if self.op == "next" else self.seq

    @property
    def last(self) -> int:
        """Every number up to it was out after the call."""
        return self.seq + self.count - 1 if self.op == "next" else self.seq


def handouts(calls: Iterable[Call]) -> list[Call]:
    """The calls that were answered with numbers."""
    return [call for call in calls if call.op == "next" and call.error is None]


def currents(calls: Iterable[Call]) -> list[Call]:
    """The calls that were answered with a uid's last number, or a ceiling of it."""
    return [call for call in calls if call.op != "next" and call.error is None]


def advances(calls: Iterable[Call]) -> list[Call]:
    """Those of them that raised it, if it was lower than they asked for."""
    return [call for call in calls if call.op == "advance" and call.error is None]
