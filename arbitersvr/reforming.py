"""The job that gives a Set other replicas, or other quorum sizes, while it serves.

clustermap/membership.py has the rules, their numbers, and why no number can repeat. The steps, each
of which looks at the map and at the replicas anew, whoever has done the ones before:

    learners   the newcomers stand in the Set's document, adopt its version v as learners, and get
               what R of the replicas know. Nobody counts them; this only makes what follows short.
    joint      version v+1 counts the old ones and the new ones. Once so many have adopted it that
               v is over (1), whole records are read from R of the old ones and written to the
               newcomers (2), which are then told to be counted.
    alone      version v+2 counts the new ones only. The job ends once v+1 is over; who is no
               replica any more is told so once, and need not be there to hear it.

What was read and written is remembered here, and done again where it was not: by another arbiter,
or after anything failed. Only a newcomer's own word that it is counted in v+1 is proof that it was
filled, since nobody tells it so before.

An abort before the joint version takes the learners out of the document. One during it turns round:
v+2 counts the old ones alone, which know everything, as W of them have acknowledged each write of
v+1; so nothing is copied. After v+2 counts the new ones there is nothing to abort, and the job ends
as done.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from arbitersvr.jobs import CannotBeDone, Journal
from clustermap.errors import ReplicaFailed
from clustermap.jobs import Job, Reform, State
from clustermap.levelling import batches
from clustermap.membership import counted, is_filled, is_over
from clustermap.model import CLUSTER_KEY, Cluster, Joint, Replica, SetSpec, set_key
from clustermap.ranges import Range
from clustermap.spans import minus
from seqsvr.credentials import PLAIN, Credentials
from seqsvr.v1 import store_pb2 as pb
from svrprocess.set_reading import SetReader, combined, wide_windows, windows

TIMEOUT_S = 2.0
WAIT_S = 0.2
"""Between two looks at replicas that are waited for."""
AT_ONCE = 8
"""Windows copied per step: what the operator says is seen after each."""

_log = logging.getLogger(__name__)


class _Copy:
    """How far these stores have been filled, under one version of one job.

    left: first the Set's own sections, then all others. It may have had those once, and what is
    left of them refuses: a newcomer that knew nothing of it would take raises of an owner that has
    not heard yet that its section has gone to another Set.
    """

    def __init__(self, cluster: Cluster, spec: SetSpec, targets: Sequence[Replica]) -> None:
        self.of = (spec.membership, spec.ranges, tuple(targets))
        others = minus([Range(0, cluster.layout.sections - 1)], spec.ranges)
        self.left = [*windows(spec.ranges), *wide_windows(others)]
        self.own = spec.sections
        self.copied = 0

    def done(self) -> None:
        """The first one left has been copied."""
        self.copied = min(self.copied + self.left.pop(0).sections, self.own)


class Reforming:
    """arbitersvr.jobs.Work for every job of this kind. timeout_s: what a replica may take."""

    def __init__(self, timeout_s: float = TIMEOUT_S, *, credentials: Credentials = PLAIN) -> None:
        self._timeout_s = timeout_s
        self._credentials = credentials
        self._copies: dict[str, _Copy] = {}

    async def step(self, journal: Journal) -> float:
        """See Work."""
        job, spec = journal.job, _spec(journal)
        reform = _reform(job)
        if spec.joint is not None:
            if job.state is State.ABORTING:
                return await self._turn_round(journal, spec)
            if not _is_wanted(spec.joint, reform):
                raise CannotBeDone("the Set is on its way to other replicas than this job's")
            return await self._joint(journal, spec)
        if _is_wanted(spec, reform) or job.state is State.ABORTING:
            return await self._settle(journal, spec)
        return await self._learn(journal, spec)

    # -- learners

    async def _learn(self, journal: Journal, spec: SetSpec) -> float:
        job = journal.job
        reform = _reform(job)
        newcomers = _without(reform.replicas, spec.replicas)
        if spec.learners != newcomers:
            changed = replace(spec, learners=newcomers)
            await self._write(journal, changed, "newcomers are learners now", copied=0)
            return 0.0
        async with self._reader(journal, spec, newcomers) as learners:
            if not await self._adopt(journal, learners, newcomers, learning=True):
                return WAIT_S
        async with self._reader(journal, spec, spec.replicas) as reader:
            alive = await self._adopted(reader, ())
        if newcomers:
            copy = self._copy(journal, spec, newcomers)
            if copy.left:
                return await self._fill(journal, spec, copy, alive)
        joint = Joint(reform.replicas, reform.r, reform.w)
        changed = replace(spec, joint=joint, learners=(), membership=spec.membership + 1)
        await self._write(journal, changed, "old and new replicas count together now", copied=0)
        return 0.0

    # -- joint

    async def _joint(self, journal: Journal, spec: SetSpec) -> float:
        new = spec.joint.replicas if spec.joint else ()
        everybody = sorted(counted(spec).replicas, key=lambda one: one not in new)
        newcomers = _without(everybody, spec.replicas)
        async with self._reader(journal, spec, everybody) as reader:
            adopted = await self._adopted(reader, newcomers)
            before = replace(spec, joint=None, membership=spec.membership - 1)
            if not is_over(before, adopted):
                await journal.tell(_missing("to adopt the joint version", everybody, adopted))
                return WAIT_S
            unfilled = await self._unfilled(reader, newcomers, adopted)
            if unfilled is None:
                await journal.tell(_missing("to be filled", newcomers, adopted))
                return WAIT_S
            targets = _to_be_filled(spec, unfilled, adopted)
            if targets is None:
                await journal.tell(_missing("to be filled", everybody, adopted))
                return WAIT_S
            copy = self._copy(journal, spec, targets)
            if targets and copy.left:
                return await self._fill(journal, spec, copy, adopted)
            for one in unfilled:
                await reader.adopt(reader.replicas.index(one))
        alone = _alone(spec)
        leaving = _without(spec.replicas, alone.replicas)
        await self._write(journal, alone, "the new replicas count alone now", leaving=leaving)
        return 0.0

    async def _unfilled(
        self, reader: SetReader, newcomers: Sequence[Replica], adopted: Iterable[int]
    ) -> list[Replica] | None:
        """Newcomers that are learners still; None: one of them cannot be asked."""
        found = []
        for one in newcomers:
            if one.store_id not in adopted:
                return None
            info = await reader.info(reader.replicas.index(one))
            if info.membership != reader.spec.membership:
                return None
            if info.learning:
                found.append(one)
        return found

    # -- the new ones, or again the old ones, alone

    async def _turn_round(self, journal: Journal, spec: SetSpec) -> float:
        """The version before the joint one has to be over, as before any step onwards."""
        old = replace(spec, joint=None, membership=spec.membership - 1)
        async with self._reader(journal, spec, spec.replicas) as reader:
            if not is_over(old, adopted := await self._adopted(reader, ())):
                await journal.tell(_missing("to adopt the joint version", spec.replicas, adopted))
                return WAIT_S
        back = replace(old, membership=spec.membership + 1)
        newcomers = _without(counted(spec).replicas, spec.replicas)
        await self._write(journal, back, "the old replicas count alone again", leaving=newcomers)
        return 0.0

    async def _settle(self, journal: Journal, spec: SetSpec) -> float:
        """The version that was last written holds, and is to be the only one."""
        reform = _reform(journal.job)
        if spec.learners:
            await self._write(journal, replace(spec, learners=()), "no learners any more")
            return 0.0
        if spec.membership > 1:
            order = list(reversed(spec.replicas))
            order.sort(key=lambda one: one in reform.replicas)
            async with self._reader(journal, spec, order) as reader:
                adopted = await self._adopted(reader, ())
                if not is_over(replace(spec, membership=spec.membership - 1), adopted):
                    note = _missing("to adopt the last version", spec.replicas, adopted)
                    await journal.tell(note)
                    return WAIT_S
        async with self._reader(journal, spec, reform.leaving) as leaving:
            for index in range(len(reform.leaving)):
                try:
                    await leaving.adopt(index, retired=True)
                except ReplicaFailed as failed:  # it is counted by nobody, whatever it thinks
                    _log.info("event=not_retired set=%s error=%s", spec.name, failed)
        self._copies.pop(journal.job.id, None)
        done = _is_wanted(spec, reform)
        state = State.DONE if done else State.ABORTED
        names = ", ".join(f"{one.name} at {one.address}" for one in spec.replicas)
        late = done and journal.job.state is State.ABORTING
        text = "it was done before it could be aborted: " if late else ""
        await journal.end(state, f"{text}the replicas are {names}")
        return 0.0

    # -- what they have in common

    async def _adopted(self, reader: SetReader, newcomers: Sequence[Replica]) -> set[int]:
        """Store ids of those that are at this version by now.

        They adopt it one after the other, in the reader's order. What is in both groups of a joint
        version goes first into it and last out of it: so, where all are alive, at any instant
        either the version before or this one has a quorum, even if nobody goes on from there.

        One that is at a later version heard of it from a map that was ahead of this one: it was
        lost, and what stands here was restored. Who the replicas of that version are is not known
        here, and what they know might be left behind. Raises CannotBeDone.
        """
        found: set[int] = set()
        version = reader.spec.membership
        indexes = range(len(reader.replicas))
        infos = await asyncio.gather(*map(reader.info, indexes), return_exceptions=True)
        for index, info in enumerate(infos):
            replica = reader.replicas[index]
            if isinstance(info, ReplicaFailed):
                continue
            if isinstance(info, BaseException):
                raise info
            at = info.membership
            try:
                if at < version:
                    await reader.adopt(index, learning=replica in newcomers)
                    at = version
            except ReplicaFailed as failed:
                at = failed.membership
            if at > version:
                raise CannotBeDone(
                    f"{replica.name} at {replica.address} is at membership {at}, the map is behind"
                    f" it, at {version}: its Set has had other replicas since"
                )
            if at == version:
                found.add(replica.store_id)
        return found

    async def _adopt(
        self, journal: Journal, reader: SetReader, who: Sequence[Replica], *, learning: bool
    ) -> bool:
        """Have all of these adopt the version; False, and told why, where one does not answer."""
        for index, one in enumerate(who):
            try:
                info = await reader.info(index)
                self._check_fit(journal, reader.spec, one, info)
                await reader.adopt(index, learning=learning)
            except ReplicaFailed as failed:
                if failed.reason in ("FOREIGN", "MEMBERSHIP", "CORRUPT"):
                    raise CannotBeDone(f"{one.address} cannot be a replica: {failed}") from None
                await journal.tell(f"waits for {one.name} at {one.address}: {failed}")
                return False
        return True

    def _check_fit(
        self, journal: Journal, spec: SetSpec, one: Replica, info: pb.InfoResponse
    ) -> None:
        cluster = _cluster(journal)
        found = (info.cluster, info.set, info.section_size, info.uid_limit)
        wanted = (cluster.id, spec.name, cluster.section_size, cluster.uid_limit)
        if found != wanted or info.out_of_quorum:
            why = info.out_of_quorum or f"it is of {found}, not of {wanted}"
            raise CannotBeDone(f"{one.address} cannot be a replica: {why}")

    async def _fill(
        self, journal: Journal, spec: SetSpec, copy: _Copy, alive: Collection[int]
    ) -> float:
        """Some windows: read from R of the old ones, written to all that are to be filled."""
        _, _, targets = copy.of
        old = [one for one in spec.replicas if one.store_id in alive]
        async with (
            self._reader(journal, spec, old) as source,
            self._reader(journal, spec, targets) as target,
        ):
            for _ in range(min(AT_ONCE, len(copy.left))):
                window = copy.left[0]
                own = copy.copied < copy.own  # nobody goes on from counters of the others
                found = await source.window(window, with_snapshots=own)
                if len(found) < spec.r:
                    await journal.tell(f"waits for {spec.r} replicas to read from: {source.lost}")
                    return WAIT_S
                for batch in batches(combined(found.values()).values()):
                    for index in range(len(targets)):
                        await target.put(index, batch, whole=True)
                copy.done()
        await self._show(journal, copy, targets)
        return 0.0

    async def _show(self, journal: Journal, copy: _Copy, targets: Sequence[Replica]) -> None:
        job, names = journal.job, ", ".join(one.name for one in targets)
        reform = replace(_reform(job), copied=copy.copied)
        if reform.copied != _reform(job).copied:
            note = f"{copy.copied} sections copied to {names}"
            await journal.write({}, job=replace(job, reform=reform, note=note))

    def _copy(self, journal: Journal, spec: SetSpec, targets: Sequence[Replica]) -> _Copy:
        new = _Copy(_cluster(journal), spec, targets)
        name = journal.job.id
        copy = self._copies.get(name)
        if copy is None or copy.of != new.of:
            copy = self._copies[name] = new
        return copy

    async def _write(
        self,
        journal: Journal,
        spec: SetSpec,
        note: str,
        *,
        copied: int | None = None,
        leaving: tuple[Replica, ...] | None = None,
    ) -> None:
        reform = _reform(journal.job)
        if copied is not None:
            reform = replace(reform, copied=copied)
        if leaving is not None:
            reform = replace(reform, leaving=leaving)
        job = replace(journal.job, reform=reform, note=note)
        await journal.write({set_key(spec.name): spec.to_json()}, job=job)
        text = "event=membership set=%s version=%d note=%r"
        _log.info(text, spec.name, spec.membership, note)

    @asynccontextmanager
    async def _reader(
        self, journal: Journal, spec: SetSpec, replicas: Sequence[Replica]
    ) -> AsyncIterator[SetReader]:
        reader = SetReader(_cluster(journal), spec, replicas, self._timeout_s, self._credentials)
        try:
            yield reader
        finally:
            await reader.aclose()


def _spec(journal: Journal) -> SetSpec:
    held = journal.entries.get(set_key(_reform(journal.job).set))
    if held is None:
        raise CannotBeDone(f"there is no Set {_reform(journal.job).set!r}")
    return SetSpec.from_json(held.value)


def _cluster(journal: Journal) -> Cluster:
    held = journal.entries.get(CLUSTER_KEY)
    if held is None:
        raise CannotBeDone("the map names no cluster")
    return Cluster.from_json(held.value)


def _reform(job: Job) -> Reform:
    if job.reform is None:
        raise CannotBeDone(f"job {job.id} is no change of replicas")
    return job.reform


def _is_wanted(now: SetSpec | Joint, reform: Reform) -> bool:
    """Whether these are the replicas and sizes that the job is to lead to."""
    same = set(now.replicas) == set(reform.replicas)
    return same and (now.r, now.w) == (reform.r, reform.w)


def _without(some: Sequence[Replica], others: Sequence[Replica]) -> tuple[Replica, ...]:
    return tuple(one for one in some if one not in others)


def _alone(spec: SetSpec) -> SetSpec:
    """The version after a joint one."""
    joint = spec.joint
    if joint is None:
        raise CannotBeDone("the Set has no joint version")
    after = replace(spec, replicas=joint.replicas, r=joint.r, w=joint.w, joint=None)
    return replace(after, membership=spec.membership + 1)


def _to_be_filled(
    spec: SetSpec, unfilled: Sequence[Replica], adopted: set[int]
) -> list[Replica] | None:
    """Whom to write to, so that the new ones may count alone; None: too few are there."""
    joint = spec.joint
    new = joint.replicas if joint else ()
    filled = {one.store_id for one in _without(new, spec.replicas)}
    targets = list(unfilled)
    for one in new:
        if is_filled(spec, filled):
            return targets
        if one.store_id in adopted and one.store_id not in filled:
            filled.add(one.store_id)
            targets.append(one)
    return targets if is_filled(spec, filled) else None


def _missing(what: str, replicas: Sequence[Replica], adopted: Iterable[int]) -> str:
    names = [one.name for one in replicas if one.store_id not in adopted]
    return f"waits for {', '.join(names) or 'replicas'} {what}"
