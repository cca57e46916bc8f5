"""The host of one incarnation: what a node does with Acquisition, Tally, Lease and Promises."""

from collections.abc import Callable
from typing import Any

from allocsvr.acquisition import Acquisition, FenceAnswer, Stage
from allocsvr.lease import Grants, Lease, Promises
from allocsvr.quorum import Outcome, Tally
from clustermap.errors import ReplicaFailed
from clustermap.membership import Counted
from life_of_a_membership.stores import SECTION, TTL
from storesvr.replica import Replica

MAX_DRIFT = 0.1
STEP = 3

Question = Callable[[Replica, int], object]
Answer = Callable[[object], None]


class Owner:
    """now: its host's clock; send(store, version, question, answer): one request on its way."""

    def __init__(
        self,
        incarnation: int,
        version: int,
        counted: Counted,
        now: Callable[[], int],
        send: Callable[[int, int, Question, Answer], None],
    ) -> None:
        self.incarnation = incarnation
        self.lease = Lease(TTL, MAX_DRIFT)
        self.promises = Promises()
        self.attempt: Acquisition | None = None
        self.epoch = 0  # under which it serves; 0: it does not
        self.current = self.window = 0
        self._now = now
        self._send = send
        self._heard: dict[int, int] = {}
        self._flight: tuple[Tally, int, int] | None = None  # votes, epoch, target
        self.use(version, counted)

    def use(self, version: int, counted: Counted) -> None:
        """From now on ask under this version. Rule 4: what was fenced under another is dropped."""
        self.version, self._counted = version, counted
        self._grants = Grants(self.lease, counted.write)
        if self.attempt is not None and self.attempt.membership != version:
            self.attempt = None

    @property
    def serves(self) -> bool:
        highest = self.promises.highest(SECTION)
        return bool(self.epoch) and highest <= self.epoch and self.lease.held(self._now())

    def take(self) -> int:
        """The next number; 0: none."""
        if not self.serves or self.current >= self.window:
            return 0
        self.current += 1
        return self.current

    def win(self, epoch: int) -> None:
        if epoch < self.promises.highest(SECTION):
            return
        self.epoch = 0
        attempt = Acquisition(SECTION, epoch, self.incarnation, self._counted.read, self.version)
        self.attempt = attempt

        def answered(index: int, said: Any) -> None:
            if isinstance(said, ReplicaFailed):
                attempt.failed(index)
                return
            [(record, granted)] = said.entries
            if record.promised > epoch:
                self._promised(record.promised)
            attempt.fenced(index, found_in(said, granted), self._now(), MAX_DRIFT)

        self._ask(lambda replica, now: replica.fence([(SECTION, SECTION, epoch)], now), answered)

    def renew(self) -> None:
        sent, grants = self._now(), self._grants
        for index, one in enumerate(self._counted.replicas):
            since = self._heard.get(one.store_id, 0)
            store = one.store_id

            def question(replica: Replica, now: int, since: int = since, store: int = store) -> Any:
                return replica.renew(self.incarnation, TTL, since, store, now)

            def answered(said: Any, index: int = index, store: int = store) -> None:
                if isinstance(said, ReplicaFailed):
                    return
                version, promises = said
                for _, _, epoch in promises:
                    self._promised(epoch)
                self._heard[store] = version
                grants.granted(index, sent)

            self._send(store, self.version, question, answered)

    def wake(self) -> None:
        """Raise for the first time what was waited for, or again what is used up."""
        attempt = self.attempt
        if attempt is not None and attempt.waited(self._now()) is Stage.READY:
            if self.promises.highest(SECTION) > attempt.epoch:
                self.attempt = None
            elif self._flight is None:
                self._raise(attempt.epoch, attempt.found + STEP)
        elif self.epoch and self._flight is None and self.current >= self.window:
            self._raise(self.epoch, self.window + STEP)

    def give_up_waiting(self) -> None:
        """For answers that do not come."""
        self._flight = None

    def _raise(self, epoch: int, target: int) -> None:
        tally = Tally(self._counted.write)
        flight = self._flight = tally, epoch, target

        def answered(index: int, said: Any) -> None:
            if isinstance(said, dict):
                for promised in said.values():
                    self._promised(promised)
            usable = said == {}
            before = tally.outcome
            outcome = tally.vote(index, usable)
            if outcome is Outcome.PENDING or before is not Outcome.PENDING:
                return
            if self._flight is flight:
                self._flight = None
            if outcome is Outcome.WON:
                self._raised(epoch, target)

        who = self.incarnation
        self._ask(lambda replica, _: replica.raise_max(who, [(SECTION, epoch, target)]), answered)

    def _raised(self, epoch: int, target: int) -> None:
        attempt = self.attempt
        if attempt is not None and attempt.epoch == epoch:
            self.epoch, self.current, self.window = epoch, attempt.found, target
            self.attempt = None
        elif self.epoch == epoch:
            self.window = max(self.window, target)

    def _promised(self, epoch: int) -> None:
        list(self.promises.note(SECTION, SECTION, epoch))
        if epoch > self.epoch:
            self.epoch = 0

    def _ask(self, question: Question, answered: Callable[[int, object], None]) -> None:
        for index, one in enumerate(self._counted.replicas):

            def answer(said: object, index: int = index) -> None:
                answered(index, said)

            self._send(one.store_id, self.version, question, answer)


def found_in(said: Any, granted: bool) -> FenceAnswer:
    """What a replica says to a fence of the section."""
    [(record, _)] = said.entries
    return FenceAnswer(
        granted,
        record.promised,
        record.max_seq,
        record.owner,
        record.owner_epoch,
        record.released,
        record.snapshot_epoch,
        dict(said.leases),
        said.boot_grace_ns,
    )
