"""SEQ-2, where the numbers are taken: also those that never reached a client."""

from seqcheck.runs import Runs
from seqcheck.violations import Checker, Violation, event


class HandedOut(Checker):
    """SEQ-2 (docs/PROTOCOL.md, section 2): a number of a uid is handed out once, ever.

    Fed where an owner takes numbers, so answers that are lost on their way count too. Clocks have
    no part in it: the rule holds whatever the owners believe.
    """

    promise = "SEQ-2"
    __slots__ = ("_uids",)

    def __init__(self) -> None:
        super().__init__()
        self._uids: dict[int, Runs] = {}

    def handed(
        self, at_ns: int, uid: int, first: int, count: int, incarnation: int, epoch: int
    ) -> Violation | None:
        """An owner took the numbers first..first+count-1 of a uid. O(log n)."""
        runs = self._uids.get(uid)
        if runs is None:
            runs = self._uids[uid] = Runs()
        last = first + count - 1
        met = runs.add(first, last, (incarnation, epoch), at_ns)
        if met is None:
            return None
        before = event(
            met.at_ns,
            "handed",
            uid=uid,
            first=met.first,
            last=met.last,
            incarnation=met.owner[0],
            epoch=met.owner[1],
        )
        now = event(
            at_ns, "handed", uid=uid, first=first, last=last, incarnation=incarnation, epoch=epoch
        )
        text = f"number {max(first, met.first)} was handed out twice"
        return self._broken(at_ns, text, before, now, uid=uid)

    def holds(self, uid: int, number: int) -> bool:
        """Whether the number was ever handed out. O(log n)."""
        runs = self._uids.get(uid)
        return runs is not None and number in runs

    def last(self, uid: int) -> int:
        """The greatest number of a uid that was ever handed out; 0 if there is none."""
        runs = self._uids.get(uid)
        return runs.last if runs is not None else 0
