"""What `seqctl store add|replace|remove` decides: from the map and stores' words to a job. Pure.

The arbiter does the steps (arbitersvr/reforming.py). What is refused here would leave the Set with
quorums that do not meet, or without one that is alive.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from clustermap.jobs import Job, Reform, State, job_key
from clustermap.model import Cluster, Quorum, Replica, SetSpec
from seqctl.failures import NotDone, WrongUsage
from seqctl.map_view import Change, View
from seqsvr.v1 import store_pb2 as pb

Infos = Mapping[str, pb.InfoResponse | str]


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says. add: addresses; remove: names; r, w: None: as fits."""

    set: str
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    r: int | None = None
    w: int | None = None


@dataclass(frozen=True, slots=True)
class Reformed:
    """A job that runs, and what will come of it. steps: for the operator; warnings likewise."""

    job: Job
    reform: Reform
    steps: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def addresses(found: View, asked: Asked) -> list[str]:
    """Whoever has to be asked for its word. Raises NotDone."""
    return [*(one.address for one in found.spec(asked.set).replicas), *asked.add]


def reformed(
    found: View, asked: Asked, infos: Infos, *, by: str, created_s: int
) -> tuple[Reformed, Change]:
    """The job. Raises NotDone, WrongUsage."""
    spec = found.spec(asked.set)
    found.check_free({asked.set})
    if spec.joint is not None or spec.learners:
        raise NotDone(f"the replicas of Set {asked.set} are changing, and no job does it: see docs")
    kept = _kept(spec, asked.remove)
    newcomers = tuple(_newcomer(found.cluster, spec, where, infos) for where in asked.add)
    replicas = (*kept, *newcomers)
    quorum = _quorum(asked, spec, len(replicas))
    if set(replicas) == set(spec.replicas) and (quorum.r, quorum.w) == (spec.r, spec.w):
        raise NotDone(f"Set {asked.set} is like that already")
    try:
        reform = Reform(asked.set, replicas, quorum.r, quorum.w)
    except ValueError as error:
        raise NotDone(str(error)) from None
    alive = [one for one in spec.replicas if _well(one, infos)]
    _check_alive(spec, alive, kept, newcomers, quorum)
    staying = [one for one in kept if one in alive]
    warnings = []
    if len(staying) < max(quorum.r, quorum.w):
        warnings.append(
            f"only {len(staying)} of the present replicas stay and {max(quorum.r, quorum.w)} are"
            " needed: the Set pauses while the newcomers are filled for the second time"
        )
    job = Job(_free_name(found), State.RUNNING, by, created_s, reform=reform)
    made = Reformed(job, reform, tuple(_steps(spec, reform)), tuple(warnings))
    return made, found.putting(job)


def turned(found: View, name: str, state: State) -> tuple[Job, Change]:
    """The job paused, running again, or aborting. Raises NotDone."""
    job = found.job(name)
    if job.reform is None:
        raise NotDone(f"job {name} does not change replicas: it moves sections")
    may = {
        State.PAUSED: (State.RUNNING,),
        State.RUNNING: (State.PAUSED, State.FAILED),
        State.ABORTING: (State.RUNNING, State.PAUSED, State.FAILED),
    }[state]
    if job.state not in may:
        raise NotDone(f"job {name} is {job.state.value}: it cannot be {state.value} now")
    if state is State.RUNNING:
        found.check_free(job.sets, but=name)
    changed = replace(job, state=state)
    return changed, Change(found.at(job_key(name)), {job_key(name): changed.to_json()})


def _kept(spec: SetSpec, names: Sequence[str]) -> tuple[Replica, ...]:
    known = {one.name for one in spec.replicas}
    for name in names:
        if name not in known:
            text = f"Set {spec.name} has no replica {name!r}, but {', '.join(sorted(known))}"
            raise NotDone(text)
    return tuple(one for one in spec.replicas if one.name not in names)


def _newcomer(cluster: Cluster, spec: SetSpec, where: str, infos: Infos) -> Replica:
    info = infos.get(where, "not asked")
    if isinstance(info, str):
        raise NotDone(f"{where} does not answer: {info}")
    one = Replica(info.replica, where, info.store_id)
    if (info.cluster, info.set) != (cluster.id, spec.name):
        raise NotDone(f"{where} is of Set {info.set} of cluster {info.cluster}, not of {spec.name}")
    if (info.section_size, info.uid_limit) != (cluster.section_size, cluster.uid_limit):
        raise NotDone(f"{where} has another layout than the cluster")
    if info.out_of_quorum:
        raise NotDone(f"{where} is out of the quorum: {info.out_of_quorum}")
    if any(one.store_id == other.store_id for other in spec.replicas):
        raise NotDone(f"{where} is a replica of Set {spec.name} already")
    fresh = info.learning or info.retired or not info.sections
    if info.membership > spec.membership or not (fresh or info.membership < spec.membership):
        raise NotDone(f"{where} is no blank store: begin with a new data directory")
    return one


def _quorum(asked: Asked, spec: SetSpec, n: int) -> Quorum:
    same = n == len(spec.replicas)
    r = asked.r or (spec.r if same else n // 2 + 1)
    w = asked.w or (spec.w if same else n // 2 + 1)
    try:
        return Quorum(n, r, w)
    except ValueError as error:
        raise WrongUsage(f"Set {spec.name} would have {n} replicas: {error}") from None


def _check_alive(
    spec: SetSpec,
    alive: Sequence[Replica],
    kept: Sequence[Replica],
    newcomers: Sequence[Replica],
    quorum: Quorum,
) -> None:
    need = max(spec.r, spec.w)
    if len(alive) < need:
        raise NotDone(
            f"{len(alive)} replicas of Set {spec.name} are alive and {need} are needed: bring"
            " others back first, or restore the Set from a backup"
        )
    after = len([one for one in kept if one in alive]) + len(newcomers)
    if after < max(quorum.r, quorum.w):
        raise NotDone(
            f"{after} live replicas would be left and {max(quorum.r, quorum.w)} are needed: remove"
            " dead ones first, or replace them"
        )


def _well(one: Replica, infos: Infos) -> bool:
    info = infos.get(one.address, "not asked")
    if isinstance(info, str):
        return False
    return info.store_id == one.store_id and not info.out_of_quorum


def _steps(spec: SetSpec, reform: Reform) -> list[str]:
    def names(some: Sequence[Replica]) -> str:
        return ", ".join(one.name for one in some)

    def sizes(n: int, r: int, w: int) -> str:
        return f"N/R/W {n}/{r}/{w}"

    new = [one for one in reform.replicas if one not in spec.replicas]
    learn = f"copy {spec.sections} sections to {names(new)}, which nobody counts yet"
    old, after = (
        sizes(spec.quorum.n, spec.r, spec.w),
        sizes(len(reform.replicas), reform.r, reform.w),
    )
    again = f"; copy once more to {names(new)}, then count it" if new else ""
    return [
        *([learn] if new else []),
        f"membership {spec.membership + 1}: {names(spec.replicas)} ({old}) and"
        f" {names(reform.replicas)} ({after}) together{again}",
        f"membership {spec.membership + 2}: {names(reform.replicas)} alone ({after})",
    ]


def _free_name(found: View) -> str:
    number = 1
    while f"reform-{number}" in found.jobs:
        number += 1
    return f"reform-{number}"
