"""What the cluster map wants of one incarnation, and what follows from each change of it.

The map proposes only. It takes a section away at an epoch not below the owner's own; one that knows
less was wiped or is an older copy: it takes nothing away, and is told (reporting.py). Whatever the
map says, an epoch is tried once, since a second fence of it would be refused, and a section that
was stopped for a hand-over never serves at that epoch again: the map is told that these epochs are
spent.

Only what differs from the last picture is looked at: a drain changes the document a hundred times.
So what the map was told and lost again (wiped, restored) would never be told twice, if it comes to
look as it did before; `spent` is therefore asked for as long as something is unserved.
"""

from collections.abc import Callable, Iterable, Sequence

from allocsvr.ledger import Ledger
from allocsvr.moving import Moving
from allocsvr.reporting import Reporting
from allocsvr.section import Section, State
from clustermap.changes import Piece, differing, pieces
from clustermap.model import Assignment, Assignments


class Intent:
    """`desired` (section -> epoch) is to be served; `unserved` is the part of it that is not yet.

    drop: stop serving sections and forget them; begin: win sections at their epochs; address: where
    callers reach us.
    """

    def __init__(
        self,
        set_name: str,
        incarnation: int,
        ledger: Ledger,
        moving: Moving,
        reporting: Reporting,
        drop: Callable[[Sequence[Section]], None],
        begin: Callable[[dict[int, int]], None],
        address: str = "",
    ) -> None:
        self.desired: dict[int, int] = {}
        self.begun: dict[int, int] = {}
        self.unserved: set[int] = set()
        self._incarnation = incarnation
        self._ledger = ledger
        self._moving = moving
        self._reporting = reporting
        self._drop = drop
        self._begin = begin
        self._address = address
        self._known = Assignments(set_name)
        ledger.wanted = self.desired

    def follow(self, document: Assignments) -> list[Piece]:
        """Do what the difference to the document before this one asks for; what differs."""
        changed = pieces(document, differing(self._known, document))
        self._known = document
        told = _Told()
        for piece in changed:
            entry = piece.entry
            if entry is None or entry.incarnation != self._incarnation:
                self._not_ours(piece, told)
            elif entry.leaving:
                self._leaving(piece, entry, told)
            else:
                self._ours(piece, entry, told)
        self._drop(told.gone)
        self._reporting.claim(told.claims)
        self._reporting.report(told.spent)
        if told.new and not self._ledger.draining:
            self.begun.update(told.new)
            self._ledger.acquiring.update(told.new)
            self._begin(told.new)
        return changed

    def lost(self, sections: Sequence[Section]) -> None:
        """Somebody else's promise took them; the map has not said so yet."""
        self.unserved.update(s.id for s in sections if s.id in self.desired)

    def spent(self) -> dict[int, int]:
        """What is assigned to us and cannot be begun: section -> epoch that is spent.

        The map has to be told until it assigns them anew.
        """
        found = {}
        for s in self.unserved:
            epoch = self.desired[s]
            if s in self._ledger.acquiring or s in self._ledger.sections:
                continue
            spent = max(self._ledger.promises.highest(s), self.begun.get(s, 0))
            if spent >= epoch:
                found[s] = spent
        return found

    def given_up(self, sections: Iterable[int]) -> None:
        """The attempt to win these has ended."""
        self._ledger.acquiring.difference_update(sections)

    def _ours(self, piece: Piece, entry: Assignment, told: "_Told") -> None:
        span, epoch = range(piece.first, piece.last + 1), entry.epoch
        sections = self._ledger.sections
        self.desired.update(dict.fromkeys(span, epoch))
        leaving = self._moving.leaving
        for s in [s for s in span if s in leaving]:
            self._moving.forget(s)
        free = [s for s in span if s not in sections or not self._holds(s, epoch, told)]
        self.unserved.update(free)
        promised, begun = self._ledger.promises.highest, self.begun
        for s in free:
            spent, tried = promised(s), begun.get(s, 0)
            if spent > epoch or tried > epoch:
                told.spent[s] = max(spent, tried)
            elif tried < epoch:
                told.new[s] = epoch
            elif s not in self._ledger.acquiring:
                told.spent[s] = epoch

    def _holds(self, s: int, epoch: int, told: "_Told") -> bool:
        """Whether we hold it as assigned, or under a later epoch, which the map is then told."""
        section = self._ledger.sections.get(s)
        if section is None:
            return False
        if section.epoch < epoch or section.state is State.LEAVING:
            told.gone.append(section)
            return False
        if section.epoch > epoch:
            told.claims.append(s)
        if section.serving:
            self.unserved.discard(s)
        else:
            self.unserved.add(s)
        return True

    def _leaving(self, piece: Piece, entry: Assignment, told: "_Told") -> None:
        for s in range(piece.first, piece.last + 1):
            self._unwanted(s)
            section = self._ledger.sections.get(s)
            if section is not None and section.epoch > entry.epoch:
                self._forgotten(section, told)
                continue
            if section is not None and section.epoch < entry.epoch:
                told.gone.append(section)
            self._moving.ask(s, entry.epoch)

    def _not_ours(self, piece: Piece, told: "_Told") -> None:
        if not (self._ledger.sections or self.desired or self._moving.leaving):
            return
        known = piece.entry.epoch if piece.entry is not None else piece.floor
        # A job has them, and callers are led here for as long: they are to wait, not to come back.
        halfway = piece.entry is not None and piece.entry.address == self._address
        for s in self._concerned(piece):
            self._unwanted(s)
            self._moving.forget(s)
            section = self._ledger.sections.get(s)
            if section is None or (halfway and section.state is State.LEAVING):
                continue
            if known < section.epoch >= piece.floor:
                self._forgotten(section, told)
            else:
                told.gone.append(section)

    def _concerned(self, piece: Piece) -> list[int]:
        """Those of a piece that we have or had to do with: of others' there may be thousands."""
        a, b = self.desired, self._ledger.sections
        c, d = self._ledger.acquiring, self._moving.leaving
        span = range(piece.first, piece.last + 1)
        return [s for s in span if s in a or s in b or s in c or s in d]

    def _unwanted(self, s: int) -> None:
        self.desired.pop(s, None)
        self.unserved.discard(s)
        self._ledger.acquiring.discard(s)

    def _forgotten(self, section: Section, told: "_Told") -> None:
        """The map knows of no epoch as late as ours."""
        if section.state is State.LEAVING:
            told.spent[section.id] = section.epoch
            told.gone.append(section)
        else:
            told.claims.append(section.id)


class _Told:
    """What follows from one picture of the map."""

    def __init__(self) -> None:
        self.gone: list[Section] = []
        self.claims: list[int] = []
        self.spent: dict[int, int] = {}
        self.new: dict[int, int] = {}
