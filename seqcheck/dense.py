"""SEQ-5: where numbers may be skipped, and how many.

Of one section, an *owner* is an (incarnation, epoch) that began serving. cur_seq of a uid under it:

* an unplanned owner starts every uid at one base, which is at most the ceiling: the greatest
  max_seq that any replica had when it began. The base shows in the first number that it hands out;
* a planned one takes over where its predecessor stood, uid by uid: at the last number handed out
  since the last unplanned change of owner, else at the base of that one;
* from there on its numbers follow one another without a hole. A number that is taken and lost on
  its way to the caller is no hole here, since this is fed where numbers are taken.

So owners fall into *lines*: an unplanned owner and its planned successors, which share one base and
one set of counters. The predecessor of a planned owner is the owner with the highest epoch below.
"""

from dataclasses import dataclass, field

from seqcheck.violations import Checker, Event, Violation, event


@dataclass(slots=True)
class _Line:
    """Owners that continue one another. base -1: not shown yet, at most `ceiling`."""

    began: Event
    ceiling: int
    base: int = -1
    last: dict[int, int] = field(default_factory=dict)


class Dense(Checker):
    """SEQ-5 (docs/PROTOCOL.md, sections 2, 4 and 7): gaps only where an owner changes unplanned.

    section_size: uids per section.
    """

    promise = "SEQ-5"
    __slots__ = ("_owners", "_section_size")

    def __init__(self, *, section_size: int) -> None:
        super().__init__()
        self._section_size = section_size
        self._owners: dict[int, dict[tuple[int, int], _Line]] = {}  # section -> (epoch, inc.)

    def began(
        self, at_ns: int, section: int, incarnation: int, epoch: int, ceiling: int, planned: bool
    ) -> Violation | None:
        """An owner starts to serve a section.

        ceiling: the greatest max_seq durable at any replica just before its first raise. planned:
        its predecessor released the section, with a snapshot that the fence quorum holds whole.
        """
        owners = self._owners.setdefault(section, {})
        now = event(
            at_ns,
            "began",
            section=section,
            incarnation=incarnation,
            epoch=epoch,
            ceiling=ceiling,
            planned=planned,
        )
        before = max((owner for owner in owners if owner[0] < epoch), default=None)
        if planned and before is not None:
            owners[epoch, incarnation] = owners[before]
        else:
            owners[epoch, incarnation] = _Line(now, ceiling)
        return None

    def handed(
        self, at_ns: int, uid: int, first: int, count: int, incarnation: int, epoch: int
    ) -> Violation | None:
        """An owner took the numbers first..first+count-1 of a uid. O(1)."""
        section = uid // self._section_size
        line = self._owners.get(section, {}).get((epoch, incarnation))
        if line is None:
            text = f"{first} was handed out by an owner that had not begun to serve"
            return self._found(at_ns, text, uid, first, count, incarnation, epoch)
        stood = line.last.get(uid, line.base)
        line.last[uid] = first + count - 1
        if stood < 0:
            line.base = first - 1
            if first <= line.ceiling + 1:
                return None
            text = f"{first} is above all that was durable, {line.ceiling}, when its owner began"
        elif first == stood + 1:
            return None
        else:
            text = f"{first} does not follow {stood}, where the uid stood"
        return self._found(at_ns, text, uid, first, count, incarnation, epoch, line.began)

    def _found(
        self,
        at_ns: int,
        text: str,
        uid: int,
        first: int,
        count: int,
        incarnation: int,
        epoch: int,
        *before: Event,
    ) -> Violation:
        now = event(
            at_ns,
            "handed",
            uid=uid,
            first=first,
            count=count,
            incarnation=incarnation,
            epoch=epoch,
        )
        return self._broken(at_ns, text, *before, now, uid=uid)
