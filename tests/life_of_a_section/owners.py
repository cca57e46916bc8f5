"""The host of one owner: what node, winning, raising, renewal and releasing do with the cores."""

from collections.abc import Callable
from typing import Any

from allocsvr.acquisition import Acquisition, FenceAnswer, Stage
from allocsvr.lease import Grants, Lease
from allocsvr.ledger import Ledger
from allocsvr.quorum import Outcome, Tally
from allocsvr.section import Section, State
from allocsvr.snapshot import decode, encode
from clustermap.errors import ReplicaFailed
from clustermap.membership import one_group
from life_of_a_section.messages import Answer, Fence, Kind, Raise, Release, Renew
from life_of_a_section.stores import SECTION, SIZE, TTL
from seqsvr.sections import Layout
from storesvr import replica as storesvr_replica

N, R, W = 3, 2, 2
MAX_DRIFT = 0.1
STEP = 5


class Owner:
    """One incarnation.

    now: its host's clock; ask(store, kind) sends one question and returns its id; snapshot(store,
    epoch) reads one, None where it cannot be had.
    """

    def __init__(
        self,
        incarnation: int,
        now: Callable[[], int],
        ask: Callable[[int, Kind], int],
        snapshot: Callable[[int, int], bytes | None],
    ) -> None:
        self.incarnation = incarnation
        self.lease = Lease(TTL, MAX_DRIFT)
        self.grants = Grants(self.lease, one_group(N, W))
        self.ledger = Ledger(Layout(SIZE, SIZE), self.lease)
        self.attempt: Acquisition | None = None
        self.now = now
        self._ask = ask
        self._snapshot = snapshot
        self._begun = 0
        self._since = [(0, 0)] * N
        self._renewals = [0] * N  # the id of the last one at each replica
        self._hungry = False
        self._leaving: Section | None = None
        self._flight: tuple[set[int], Tally, int] | None = None  # ids, votes, target

    @property
    def section(self) -> Section | None:
        return self.ledger.sections.get(SECTION)

    @property
    def serves(self) -> bool:
        """Whether it would hand out a number at this instant."""
        held = self.section
        return held is not None and held.serving and self.lease.held(self.now())

    # -- what it is told and does of its own accord

    def assign(self, epoch: int) -> None:
        """As intent.py: an epoch is tried once, and not below what was promised to others."""
        held = self.section
        if epoch <= self._begun or self.ledger.promises.highest(SECTION) > epoch:
            return
        if held is not None:
            self.ledger.lose(held)
        self._begun = epoch
        self._hungry = False
        self.attempt = Acquisition(SECTION, epoch, self.incarnation, one_group(N, R))
        self._ask_all(Fence(self.incarnation, epoch))

    def renew(self) -> None:
        for store in range(N):
            kind = Renew(self.incarnation, self._since[store], self.now())
            self._renewals[store] = self._ask(store, kind)

    def leave(self) -> None:
        """Stop serving; what is in flight ends first, and then it releases."""
        if self.section is not None:
            self._leaving = self.section
            self.ledger.leave(self.section)
            self.wake()

    def wake(self) -> None:
        """Do what time, or an answer, has made due."""
        attempt = self.attempt
        if attempt is not None and attempt.waited(self.now()) is Stage.READY:
            self.attempt = None
            if self.ledger.promises.highest(SECTION) <= attempt.epoch:
                self._start(attempt)
        held = self.section
        if self._hungry and self._flight is None and held is not None:
            self._raise(held)
        if self._leaving is not None and self._flight is None:
            self._release(self._leaving)

    def _start(self, attempt: Acquisition) -> None:
        base, pages = attempt.found, None
        for store in attempt.snapshot_from:
            left = self._snapshot(store, attempt.snapshot_epoch)
            if left is not None:
                base, max_seq, pages = decode(SECTION, SIZE, left)
                assert max_seq <= attempt.found, "a snapshot is never above max_seq"
                break
        section = Section(
            SECTION,
            attempt.epoch,
            base,
            found=attempt.found,
            size=SIZE,
            step=STEP,
            on_hungry=self._got_hungry,
            pages=pages,
        )
        self.ledger.admit(section)
        self._hungry = True

    def _got_hungry(self, section: Section) -> None:
        self._hungry = True

    def _raise(self, held: Section) -> None:
        if held.state not in (State.RAISING, State.SERVING):
            return
        self._hungry = False
        target = held.target(self.now())
        ids = self._ask_all(Raise(self.incarnation, held.epoch, target))
        self._flight = ids, Tally(one_group(N, W)), target

    def _release(self, section: Section) -> None:
        self._leaving = None
        if section.state is State.LEAVING:
            self._ask_all(Release(self.incarnation, section.epoch, encode(section)))
            self.ledger.lose(section)

    def _ask_all(self, kind: Kind) -> set[int]:
        return {self._ask(store, kind) for store in range(N)}

    # -- what it is answered

    def answered(self, answer: Answer) -> None:
        if isinstance(answer.kind, Fence):
            self._fenced(answer, answer.kind)
        elif isinstance(answer.kind, Raise):
            self._raised(answer, answer.kind)
        elif isinstance(answer.kind, Release):
            self._promised(answer)
        elif answer.id == self._renewals[answer.store]:
            self._renewed(answer, answer.kind)
        self.wake()

    def _fenced(self, answer: Answer, kind: Fence) -> None:
        attempt = self.attempt if self.attempt and self.attempt.epoch == kind.epoch else None
        said = answer.said
        if not isinstance(said, storesvr_replica.FenceAnswer):
            if attempt is not None:
                attempt.failed(answer.store)
            return
        [(record, granted)] = said.entries
        found = FenceAnswer(
            granted and record.promised == kind.epoch,
            record.promised,
            record.max_seq,
            record.owner,
            record.owner_epoch,
            record.released,
            record.snapshot_epoch,
            dict(said.leases),
            said.boot_grace_ns,
        )
        if record.promised > kind.epoch:
            self.ledger.promise(SECTION, SECTION, record.promised)
        if attempt is not None:
            attempt.fenced(answer.store, found, self.now(), MAX_DRIFT)

    def _raised(self, answer: Answer, kind: Raise) -> None:
        refused = self._promised(answer)
        if self._flight is None or answer.id not in self._flight[0]:
            return
        _, tally, target = self._flight
        usable = isinstance(answer.said, dict) and not refused
        outcome = tally.vote(answer.store, usable)
        if outcome is Outcome.PENDING:
            return
        self._flight = None
        # Of an epoch that has passed, if the section was assigned to us anew meanwhile.
        held = self.section if self.section and self.section.epoch == kind.epoch else None
        self._hungry = self._hungry or self.section is not None
        if held is None:
            return
        if outcome is Outcome.WON:
            self._hungry = False
            self.ledger.raised(held, target)
        elif refused:
            self.ledger.lose(held)

    def _renewed(self, answer: Answer, kind: Renew) -> None:
        if isinstance(answer.said, ReplicaFailed):
            return
        said: Any = answer.said
        version, promises = said
        if kind.since[1] == answer.store + 1:
            assert version >= kind.since[0], "NRW-2: a store has forgotten promises"
        for first, last, epoch in promises:
            self.ledger.promise(first, last, epoch)
        self._since[answer.store] = version, answer.store + 1
        self.grants.granted(answer.store, kind.sent_ns)

    def _promised(self, answer: Answer) -> bool:
        """Whether a raise or release was refused; what stands against it is noted."""
        if not isinstance(answer.said, dict):
            return False
        for section, epoch in answer.said.items():
            self.ledger.promise(section, section, epoch)
        return bool(answer.said)
