"""One uid of one call: what is asked, by when, and what came of it so far.

An `Entry` is made by a call, put into the batches of a session, and settled exactly once per
attempt: with numbers, or with a `Failure` that says whether another attempt may help. `doubt`
counts the attempts that were sent and never answered; a call that fails with doubt left may have
taken numbers, so it must not claim that it took no effect.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from operator import index
from typing import Protocol

from seqsvr.errors import TABLE, InvalidArgument, OutcomeUnknown, SeqError, Unavailable, error_for
from seqsvr.sections import MAX_COUNT, SEQ_LIMIT

UID_CEILING = 2**63
"""No cluster's uid_limit is above this; what a client checks before it knows the real one."""


class Op(Enum):
    """The kinds of call, by their names in a history."""

    NEXT = "next"
    CURRENT = "current"
    ADVANCE = "advance"


@dataclass(frozen=True, slots=True)
class Current:
    """`value`: the last number handed out for a uid, 0 for none. Not `exact`: a ceiling of it."""

    value: int
    exact: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one attempt of an entry failed, and what may be done about it.

    address: the node that was asked, empty if none was; retry_after_s: what the server asked for,
    0 if nothing.
    """

    reason: str
    text: str
    address: str = ""
    retry: bool = False
    reroute: bool = False
    retry_after_s: float = 0.0


def refused(reason: str, text: str, address: str, retry_after_s: float = 0.0) -> Failure:
    """The failure that a reason of the wire stands for; one that is none of ours is final."""
    row = TABLE.get(reason)
    if row is None:
        return Failure("INTERNAL", f"{reason}: {text}", address)
    return Failure(
        reason,
        text or reason,
        address,
        retry=row.retry,
        reroute=row.reroute,
        retry_after_s=retry_after_s,
    )


def lost(address: str, text: str) -> Failure:
    """No answer, and none will come: the stream to `address` broke or never came to be."""
    return Failure("UNREACHABLE", f"{address}: {text}", address, retry=True, reroute=True)


class Waiter(Protocol):
    """What an entry tells that it is settled: an asyncio.Future, or a Tally of several entries."""

    def done(self) -> bool: ...
    def set_result(self, result: None, /) -> None: ...


class Tally:
    """Completes `future` when `left` entries are settled; done as soon as nobody waits for it."""

    __slots__ = ("_future", "_left")

    def __init__(self, future: Waiter, left: int) -> None:
        self._future = future
        self._left = left

    def done(self) -> bool:
        return self._future.done()

    def set_result(self, _: None, /) -> None:
        self.settled(1)

    def settled(self, count: int) -> None:
        """Of so many entries at once."""
        self._left -= count
        if self._left == 0 and not self._future.done():
            self._future.set_result(None)


class Entry:
    """See the head of the module. `seq` is None until numbers came; `epoch` is 0 if unknown."""

    __slots__ = (
        "count",
        "deadline_s",
        "doubt",
        "epoch",
        "exact",
        "failure",
        "op",
        "section",
        "seq",
        "uid",
        "waiter",
    )

    def __init__(self, op: Op, uid: int, count: int, deadline_s: float) -> None:
        self.op = op
        self.uid = uid
        self.count = count
        self.deadline_s = deadline_s
        self.section = 0
        self.seq: int | None = None
        self.exact = False
        self.epoch = 0
        self.failure: Failure | None = None
        self.doubt = 0
        self.waiter: Waiter

    def fail(self, failure: Failure) -> None:
        """Settle this attempt with a failure, if somebody still waits for it."""
        if not self.waiter.done():
            self.failure = failure
            self.waiter.set_result(None)


class Advance(Entry):
    """A uid to be raised to `at_least`, by at most `max_jump`; `seq` is where it stands then."""

    __slots__ = ("at_least", "max_jump")

    def __init__(self, uid: int, at_least: int, max_jump: int, deadline_s: float) -> None:
        super().__init__(Op.ADVANCE, uid, 1, deadline_s)
        self.at_least = at_least
        self.max_jump = max_jump


class Bulk:
    """Distinct uids of one `next_many` that have one owner, in place of as many entries.

    Settled as a whole, `seqs` in the order of `uids`, as long as all goes well; whatever else
    happens to it happens to its entries: `unpack` makes them, once, and from then on it is empty.
    waiter: counts uids.
    """

    __slots__ = ("deadline_s", "entries", "sections", "seqs", "uids", "waiter")

    def __init__(
        self, uids: list[int], sections: list[int], deadline_s: float, waiter: Tally
    ) -> None:
        self.uids = uids
        self.sections = sections
        self.deadline_s = deadline_s
        self.waiter = waiter
        self.seqs: Sequence[int] = ()
        self.entries: list[Entry] = []

    def settle(self, seqs: Sequence[int]) -> None:
        """All uids have got their number."""
        self.seqs = seqs
        self.waiter.settled(len(self.uids))

    def unpack(self, doubt: int) -> list[Entry]:
        """One entry for each uid. doubt: attempts that were sent."""
        for uid, section in zip(self.uids, self.sections, strict=True):
            entry = Entry(Op.NEXT, uid, 1, self.deadline_s)
            entry.section, entry.doubt, entry.waiter = section, doubt, self.waiter
            self.entries.append(entry)
        return list(self.entries)


def error_of(entry: Entry, failure: Failure) -> SeqError:
    """What the caller gets for an entry that finally failed.

    Doubt about an effect outweighs "it took no effect", which is what Unavailable promises.
    """
    error = error_for(failure.reason, failure.text, entry.uid)
    if entry.op is not Op.CURRENT and entry.doubt and isinstance(error, Unavailable):
        text = f"time ran out after the call was sent: {failure.text}"
        return OutcomeUnknown(text, reason="OUTCOME_UNKNOWN", uid=entry.uid)
    return error


def sort_repeated(entries: Sequence[Entry]) -> None:
    """Give a uid that occurs more than once its numbers in the order of its entries.

    Batches and retries may have been answered in any order. All entries of one call are
    concurrent, so any of them may have any of the numbers (SEQ-1). Every entry must be answered.
    """
    places: dict[int, list[Entry]] = {}
    for entry in entries:
        places.setdefault(entry.uid, []).append(entry)
    if len(places) == len(entries):
        return
    for same in places.values():
        answers = sorted((entry.seq or 0, entry.epoch) for entry in same)
        for entry, (seq, epoch) in zip(same, answers, strict=True):
            entry.seq, entry.epoch = seq, epoch


def checked_uid(uid: object, limit: int) -> int:
    """`uid` as an int in 0..limit-1. Raises InvalidArgument, reason UID_OUT_OF_RANGE."""
    value = _integer(uid)
    if value is None or not 0 <= value < limit:
        text = f"uid must be an integer in 0..{limit - 1}, not {_shown(uid)}"
        raise InvalidArgument(text, reason="UID_OUT_OF_RANGE", uid=value)
    return value


def checked_count(count: object, uid: int) -> int:
    """`count` as an int in 1..10000. Raises InvalidArgument, reason COUNT_OUT_OF_RANGE."""
    value = _integer(count)
    if value is None or not 1 <= value <= MAX_COUNT:
        text = f"count must be an integer in 1..{MAX_COUNT}, not {_shown(count)}"
        raise InvalidArgument(text, reason="COUNT_OUT_OF_RANGE", uid=uid)
    return value


def checked_floor(at_least: object, uid: int | None, name: str = "at_least") -> int:
    """A floor, or a jump to one, in 0..2^63-1. Raises InvalidArgument, reason JUMP_TOO_LARGE."""
    value = _integer(at_least)
    if value is None or not 0 <= value <= SEQ_LIMIT:
        text = f"{name} must be an integer in 0..{SEQ_LIMIT}, not {_shown(at_least)}"
        raise InvalidArgument(text, reason="JUMP_TOO_LARGE", uid=uid)
    return value


def checked_timeout(timeout: float) -> float:
    """Seconds, finite and not negative. Raises ValueError or TypeError: a bug of the caller."""
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"timeout must be a number of seconds, not {_shown(timeout)}")
    if not (math.isfinite(timeout) and timeout >= 0):
        raise ValueError(f"timeout must be finite and not negative, not {timeout}")
    return float(timeout)


def _integer(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    try:
        return index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 50 else text[:47] + "..."
