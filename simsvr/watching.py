"""What the checkers are told of a run, and what they have found.

Everything is told in true time, in the instant in which it happens, from where it happens: numbers
where they are taken, records when they are durable, acknowledgements when they are given.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING, Any

import seqcheck
from allocsvr.counters import Taken
from allocsvr.ledger import Answers
from allocsvr.section import Section
from clustermap.model import SetSpec
from seqcheck.calls import Call
from seqcheck.violations import Violation
from seqsvr.errors import SeqError
from seqsvr.v1 import store_pb2 as pb
from simsvr.hosts import Host
from simsvr.versions import Raised, Versions
from storesvr.port import Batch, Identity
from storesvr.records import Record

if TYPE_CHECKING:
    from simsvr.programs import WatchedNode
    from simsvr.world import World


@dataclass(slots=True)
class Noted:
    """What a call was answered."""

    seqs: list[int] = field(default_factory=list)
    exact: list[bool] = field(default_factory=list)
    floors: list[int] = field(default_factory=list)


class Watch:
    """All checkers of one run. `over`: the run has ended, nothing is told any more."""

    def __init__(self, world: "World") -> None:
        plan = world.plan
        self.over = False
        self.violations: list[Violation] = []
        self.calls: list[Call] = []
        self.began_calls = self.failed_calls = self.owners = 0
        self._world = world
        self._loop = world.loop
        self._section_size = plan.section_size
        self._ceilings: dict[tuple[int, int], tuple[int, bool]] = {}
        self._handed_out = seqcheck.HandedOut()
        self._dense = seqcheck.Dense(section_size=plan.section_size)
        # Replicas count in their Set, by the version of its membership, and are told by disk.
        sets = range(1 + plan.resharding)
        self._versions: list[Versions] = [Versions() for _ in sets]
        self._durables = [seqcheck.Durable() for _ in sets]
        self._never_fall = [seqcheck.NeverFalls(n=plan.stores, w=plan.w) for _ in sets]
        self._knowing = seqcheck.OnlyThoseWhoKnow()
        self._given: dict[bytes, int] = {}
        self._newcomers: set[int] = set()  # store ids of those not counted yet
        self._staged_ns: dict[int, int] = {}  # of a replica's last commit
        self._spoilt_ns: dict[tuple[int, int], int] = {}  # by store id and section
        self._open_calls: dict[int, tuple[Any, Sequence[int], int, int]] = {}
        self._fencings = [seqcheck.Fencing(n=plan.stores, r=plan.r, w=plan.w) for _ in sets]
        self._one_owner = seqcheck.OneOwner()
        self._routes = seqcheck.Routes()
        settle_ns = int(2 * plan.lease_ttl_s * 1e9)
        self._without_map = seqcheck.ServesWithoutMap(settle_ns=settle_ns)
        bound_ns = int(plan.calm_s * 1e9)
        self._liveness = seqcheck.Liveness(sections=range(plan.sections), bound_ns=bound_ns)

    def _found(self, violation: Violation | None) -> None:
        if violation is not None and not self.over:
            self.violations.append(violation)
            self._world.note("checker", str(violation).splitlines()[0])

    # -- callers

    @contextmanager
    def call(self, op: Any, uids: Sequence[int], count: int) -> Iterator[Noted]:
        """One call of a client's on these uids."""
        noted, error = Noted(), "never answered"
        began_ns = self._loop.now_ns
        self.began_calls += 1
        serial = self.began_calls
        self._open_calls[serial] = op, uids, count, began_ns
        try:
            yield noted
            error = ""
        except SeqError as failed:
            self.failed_calls += 1
            error = failed.reason
            raise
        finally:
            if not self.over:
                del self._open_calls[serial]
                self._ended(op, uids, count, began_ns, noted, error)

    def _ended(
        self, op: Any, uids: Sequence[int], count: int, began_ns: int, noted: Noted, error: str
    ) -> None:
        now_ns = self._loop.now_ns
        for index, uid in enumerate(uids):
            seq = 0 if error else noted.seqs[index]
            exact = bool(noted.exact) and noted.exact[index]
            call = Call(op, uid, count, began_ns, now_ns, seq, exact, 0, error or None)
            call.at_least = noted.floors[index] if noted.floors else 0
            self.calls.append(call)

    def installed(self, client: str, version: int) -> None:
        self._found(self._routes.installed(self._loop.now_ns, client, version))

    def accepted(self, client: str, section: int, epoch: int) -> None:
        self._found(self._routes.accepted(self._loop.now_ns, client, section, epoch))

    # -- nodes

    def watch_ledger(self, node: "WatchedNode") -> None:
        """See every number that this node takes."""
        ledger, take, take_whole = node.ledger, node.ledger.next_batch, node.ledger.whole
        raise_to = ledger.advance_batch

        def next_batch(uids: Sequence[int], counts: Sequence[int], now_ns: int) -> Answers:
            answers = take(uids, counts, now_ns)
            for index, seq in enumerate(answers.seqs):
                if seq:
                    count = counts[index] if counts else 1
                    self._handed(node, uids[index], seq, count, answers.epochs[index])
            return answers

        def whole(uids: Sequence[int], now_ns: int) -> Taken | None:
            taken = take_whole(uids, now_ns)
            if taken is not None:
                seqs, epochs = taken.seqs.tolist(), taken.epochs
                each = repeat(epochs) if isinstance(epochs, int) else epochs.tolist()
                for uid, seq, epoch in zip(uids, seqs, each, strict=False):
                    self._handed(node, uid, seq, 1, epoch)
            return taken

        def advance_batch(
            uids: Sequence[int], floors: Sequence[int], max_jump: int, now_ns: int
        ) -> Answers:
            """To rise is to take all numbers up to the floor; only here it is seen from where."""
            size = self._section_size
            stood = [
                section.current(uid % size)[0]
                if (section := ledger.sections.get(uid // size))
                else 0
                for uid in uids
            ]
            answers = raise_to(uids, floors, max_jump, now_ns)
            for uid, before, seq, epoch in zip(
                uids, stood, answers.seqs, answers.epochs, strict=True
            ):
                if seq > before:
                    self._handed(node, uid, before + 1, seq - before, epoch)
            return answers

        ledger.advance_batch = advance_batch  # type: ignore[method-assign]
        ledger.next_batch = next_batch  # type: ignore[method-assign]
        ledger.whole = whole  # type: ignore[method-assign]

    def _handed(self, node: "WatchedNode", uid: int, first: int, count: int, epoch: int) -> None:
        now_ns, section = self._loop.now_ns, uid // self._section_size
        own = node.incarnation
        self._liveness.serves(now_ns, section)
        self._found(self._handed_out.handed(now_ns, uid, first, count, own, epoch))
        self._found(self._dense.handed(now_ns, uid, first, count, own, epoch))
        durable = self._durables[self._set_of(node)]
        self._found(durable.handed(now_ns, section, first + count - 1, self._world.plan.w))
        if not self._world.plan.wild:
            self._found(self._one_owner.served(now_ns, section, own, epoch))
            self._look(section)

    def _look(self, section: int) -> None:
        """Who could serve a section at this very instant (LEASE-1)."""
        able = [n.incarnation for n in self._world.nodes.values() if _able(n, section)]
        if len(able) > 1:
            self._found(self._one_owner.able(self._loop.now_ns, section, able))

    def starting(self, section: Section, planned: bool) -> None:
        """It is fenced and waited for; its first raise comes next."""
        world = self._world
        ceiling = max(world.max_seq(index, section.id) for index in range(len(world.disks)))
        self._ceilings[section.id, section.epoch] = ceiling, planned

    def acknowledged(self, node: "WatchedNode", section: Section, max_seq: int) -> None:
        of = self._set_of(node)
        raised = Raised(section.id, section.epoch, node.incarnation, max_seq)
        under = self._versions[of].counted(raised)
        self._found(
            self._never_fall[of].acknowledged(
                self._loop.now_ns, section.id, section.epoch, max_seq, under
            )
        )

    def began(self, node: "WatchedNode", section: Section) -> None:
        now_ns, own = self._loop.now_ns, node.incarnation
        self.owners += 1
        ceiling, planned = self._ceilings[section.id, section.epoch]
        self._world.note(
            node.host.name, f"serves section {section.id} at epoch {section.epoch} from {ceiling}"
        )
        self._found(self._dense.began(now_ns, section.id, own, section.epoch, ceiling, planned))
        if not self._world.plan.wild:
            self._look(section.id)

    def stopped(self, node: "WatchedNode", sections: Iterable[Section], why: str) -> None:
        """A node ceases to serve. Who cannot reach W replicas may; what else may not is asked where
        nothing is done to replicas, nodes and the network between them (LEASE-2).
        """
        if self._world.plan.map_alone:
            now_ns, own = self._loop.now_ns, node.incarnation
            for section in sections:
                self._found(self._without_map.stopped(now_ns, section.id, own, why))

    def look_around(self) -> None:
        """What nobody says when it happens: that a lease has run out, that the map is away."""
        now_ns = self._loop.now_ns
        if self._world.map_answers:
            self._without_map.map_up(now_ns)
        else:
            self._without_map.map_down(now_ns)
        for node in self._world.nodes.values():
            ledger, host = node.ledger, node.host
            if host.running and ledger.sections and not ledger.lease.held(host.boot_ns):
                self.stopped(node, [s for s in ledger.sections.values() if s.serving], "lapsed")

    def gave(self, answer: pb.FenceResponse) -> None:
        """A replica has answered a fence; no two such answers are equal."""
        self._given.setdefault(answer.SerializeToString(), self._loop.now_ns)

    def counted(self, node: str, sections: Sequence[int], answer: pb.FenceResponse) -> None:
        """An owner counted a store's answer to a fence."""
        now_ns, store = self._loop.now_ns, answer.store_id
        given_ns = self._given.get(answer.SerializeToString(), now_ns)
        for section in sections:
            self._found(
                self._knowing.counted(now_ns, node, store, section, "Fence", given_ns=given_ns)
            )

    # -- stores

    def staged(self, index: int) -> None:
        """What a replica writes next is settled."""
        self._staged_ns[index] = self._loop.now_ns

    def came(self, store_id: int) -> None:
        """A newcomer, which knows nothing."""
        self._newcomers.add(store_id)
        self._knowing.unfit(self._loop.now_ns, store_id, "a newcomer that was not filled")

    def reformed(self, spec: SetSpec) -> None:
        """The map says who is counted, which may be what it has said before."""
        of = self._of(spec.name)
        membership = self._versions[of].begun(spec, self._world.labels)
        if membership is not None:
            self._durables[of].adopted(membership)

    def committed(self, index: int, batch: Batch) -> None:
        disk = self._world.disks[index]
        store = disk.identity.store_id
        for record in batch.records:
            self._told(index, record)
            if self._staged_ns[index] <= self._spoilt_ns.get((store, record.section), -1):
                # Written anew, and what is written was read while it was sound.
                self._knowing.fit(self._loop.now_ns, store, section=record.section)
        if store in self._newcomers and batch.identity and not batch.identity.learning:
            self._counts(index, batch.identity)

    def _counts(self, index: int, identity: Identity) -> None:
        """A newcomer is counted from now on. Whether it may be is not what it says, but whether it
        has all that was acknowledged without it (NRW-2).
        """
        versions = self._versions[self._of(identity.set)]
        label = self._world.labels[identity.store_id]
        held = {record.section: record for record in self._world.records(index)}
        if versions.filled(label, identity.membership, held):
            self._newcomers.discard(identity.store_id)
            self._knowing.fit(self._loop.now_ns, identity.store_id)

    def started(self, index: int) -> None:
        """A replica has come up with what its disk holds: nothing of that may have fallen."""
        for record in self._world.records(index):
            self._told(index, record)

    def _told(self, index: int, record: Record) -> None:
        now_ns, section = self._loop.now_ns, record.section
        disk = self._world.disks[index]
        of, label = self._of(disk.identity.set), disk.label
        self._found(self._durables[of].stored(now_ns, label, section, record.max_seq))
        self._found(self._never_fall[of].stored(now_ns, label, section, record.max_seq))
        if record.promised:
            self._found(self._fencings[of].promised(now_ns, label, section, record.promised))

    def _of(self, set_name: str) -> int:
        return 0 if set_name == self._world.plan.set_name else 1

    def _set_of(self, node: "WatchedNode") -> int:
        return self._of(node.spec.name)

    def raise_acked(
        self,
        index: int,
        request: pb.RaiseRequest,
        answer: pb.RaiseResponse,
        accepted: Mapping[tuple[int, int, int, int], int],
    ) -> None:
        """accepted: when the replica staged which raise."""
        own, disk = request.incarnation, self._world.disks[index]
        of = self._of(disk.identity.set)
        version = request.header.membership
        refused = {s for r in answer.refused for s in range(r.first, r.last + 1)}
        for entry in request.entries:
            if entry.section in refused:
                continue
            raised = Raised(entry.section, entry.epoch, own, entry.max_seq)
            self._found(
                self._fencings[of].acked(
                    self._loop.now_ns,
                    disk.label,
                    entry.section,
                    entry.epoch,
                    own,
                    entry.max_seq,
                    accepted_ns=accepted[own, entry.section, entry.epoch, entry.max_seq],
                    under=self._versions[of].acked(raised, version, disk.label),
                )
            )

    def spoilt(self, index: int, section: int, why: str) -> None:
        store = self._world.disks[index].identity.store_id
        self._knowing.unfit(self._loop.now_ns, store, why, section=section)
        self._spoilt_ns[store, section] = self._loop.now_ns

    def lost(self, index: int, label: str, why: str) -> None:
        """The disk of a replica, `label`, is another one from now on."""
        now_ns, identity = self._loop.now_ns, self._world.disks[index].identity
        of = self._of(identity.set)
        for checker in (self._durables[of], self._never_fall[of], self._fencings[of]):
            checker.lost(now_ns, label)
        self._knowing.unfit(now_ns, identity.store_id, why)

    # -- programs

    def crashed(self, host: Host) -> None:
        """A host has ended."""

    def program_ended(self, host: Host, error: BaseException) -> None:
        """A program never ends with an error, whatever is done to it."""
        now_ns = self._loop.now_ns
        self._found(Violation("INVARIANT", f"{host.name} ended with {error!r}", (), now_ns))

    # -- the end

    def healed(self) -> None:
        """Nothing is wrong from here on: everything must serve within the bound."""
        self._liveness.healed(self._loop.now_ns)

    @property
    def unserved(self) -> Set[int]:
        """Sections that have not served since `healed`."""
        return self._liveness.waiting

    @property
    def settled(self) -> bool:
        """There is nothing to wait for any more: all sections serve again, or something broke."""
        return bool(self.violations) or not self._liveness.waiting

    def stuck(self, error: BaseException) -> None:
        """The simulation itself did not get to its end."""
        self._found(Violation("INVARIANT", f"the run ended with {error!r}", (), self._loop.now_ns))

    def failed(self, text: str) -> None:
        """A script has not seen what it was to see."""
        self._found(Violation("SCRIPT", text, (), self._loop.now_ns))

    def finish(self) -> None:
        """What can only be said of a whole history."""
        world = self._world
        for of, never_falls in enumerate(self._never_fall):
            held = {
                disk.label: {record.section: record.max_seq for record in world.records(index)}
                for index, disk in enumerate(world.disks)
                if disk.label in self._versions[of].members
            }
            self._found(never_falls.survivors(self._loop.now_ns, held))
        for context in self._loop.faults:
            error = context.get("exception")
            text = f"{context.get('message')}: {error!r}"
            self._found(Violation("INVARIANT", text, (), self._loop.now_ns))
        if not self.violations and not world.plan.wild:  # whose clocks may make a lease last
            self._found(self._liveness.ended(self._loop.now_ns))
        for op, uids, count, began_ns in self._open_calls.values():  # may have taken effect
            self._ended(op, uids, count, began_ns, Noted(), "never answered")
        report = seqcheck.check(self.calls, complete=not self._world.plan.wild)
        for violation in report.violations:
            if not self._world.plan.wild or violation.promise == "SEQ-2":
                self._found(violation)
        self.over = True


def _able(node: "WatchedNode", section: int) -> bool:
    if not node.host.running:
        return False
    held = node.ledger.sections.get(section)
    return held is not None and held.serving and node.ledger.lease.held(node.host.boot_ns)
