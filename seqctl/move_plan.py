"""What `seqctl move` decides: from the map and what is asked for to a job's next document. Pure.

The arbiter does the steps, and may change the document at any time; so every decision is made from
what was just read, and made again if that has changed before it is written (writing.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from clustermap.jobs import Job, Move, State, job_key
from clustermap.model import SetSpec
from clustermap.ranges import Range, shown
from clustermap.spans import minus
from seqctl.failures import NotDone
from seqctl.map_view import Change, View
from seqsvr.v1 import store_pb2 as pb

CHUNK = 256
SECTION_S = 0.05
"""How long a section takes, about: as measured on one busy machine of two cores; the arbiter makes
chunks as large as pauses allow."""
ALL, HALF = "all", "half"
Which = tuple[Range, ...] | str
"""Sections, or ALL or HALF of what the source has."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says. name: of the job, empty: the next free one."""

    source: str
    target: str
    which: Which
    chunk: int = CHUNK
    name: str = ""


@dataclass(frozen=True, slots=True)
class Planned:
    """A job as it was, or would be, written, and what is to be said about it."""

    job: Job
    move: Move
    warnings: tuple[str, ...] = ()

    @property
    def chunks(self) -> int:
        """At least so many."""
        return -(-self.move.sections // self.move.chunk)

    @property
    def estimated_s(self) -> float:
        return round(self.move.sections * SECTION_S, 1)


def planned(
    found: View, asked: Asked, *, by: str, created_s: int, incarnation: int
) -> tuple[Planned, Change]:
    """A new job, not started. Raises NotDone where the map does not allow it."""
    if asked.source == asked.target:
        raise NotDone(f"sections cannot move from Set {asked.source} to itself")
    spec = found.spec(asked.source)
    found.spec(asked.target)
    found.check_free((asked.source, asked.target))
    if asked.name in found.jobs:
        raise NotDone(f"there is a job {asked.name} already")
    ranges = _wanted(spec.ranges, asked)
    name = asked.name or _free_name(found)
    move = Move(asked.source, asked.target, ranges, incarnation, asked.chunk)
    job = Job(name, State.PLANNED, by, created_s, move=move)
    return Planned(job, move, tuple(lacking(found, move))), found.putting(job)


def lacking(found: View, move: Move) -> list[str]:
    """What the target has not, and needs before the move can be started."""
    if found.willing(move.target):
        return []
    start = f"start some: allocsvr --set {move.target}"
    return [f"Set {move.target} has no live node to serve the sections: {start}"]


def unanswered(spec: SetSpec, infos: Mapping[str, pb.InfoResponse | str]) -> list[str]:
    """What keeps a Set from taking sections; infos: by address, a string: why none came."""
    need, said = max(spec.r, spec.w), []
    for replica in spec.replicas:
        info = infos.get(replica.address, "not asked")
        if isinstance(info, str):
            said.append(f"{replica.address}: {info}")
        elif info.out_of_quorum or info.store_id != replica.store_id:
            said.append(f"{replica.address}: {info.out_of_quorum or 'another store'}")
    if len(spec.replicas) - len(said) >= need:
        return []
    return [f"Set {spec.name}: fewer than {need} replicas answer ({'; '.join(said)})"]


def started(found: View, name: str) -> tuple[Job, Change]:
    """The job running, for the first time or after it failed. Raises NotDone."""
    job, move = found_move(found, name)
    _check_state(job, "started", State.PLANNED, State.FAILED)
    found.check_free(job.sets, but=name)
    held = list(found.spec(move.source).ranges)
    target = found.spec(move.target)
    if job.state is State.FAILED:  # some may be the target's by now
        held = sorted([*held, *target.ranges])
    _check_held(move, minus(move.ranges, held))
    missing = lacking(found, move)
    if missing:
        raise NotDone("; ".join(missing))
    running = replace(job, state=State.RUNNING, note="")
    return running, found.putting(running)


def paused(found: View, name: str) -> tuple[Job, Change]:
    """The job stops after the step that it is at. Raises NotDone."""
    return _turned(found, name, "paused", (State.RUNNING,), State.PAUSED)


def resumed(found: View, name: str) -> tuple[Job, Change]:
    """The job goes on. Raises NotDone."""
    return _turned(found, name, "resumed", (State.PAUSED,), State.RUNNING)


def aborted(found: View, name: str, *, undo: bool) -> tuple[Job, Change]:
    """The job ends where it is, and takes everything back first if `undo`. Raises NotDone."""
    job, move = found_move(found, name)
    if job.state is State.PLANNED:  # nothing was done
        ended = replace(job, state=State.ABORTED, note="")
        return ended, _changing(found, ended)
    may = (State.RUNNING, State.PAUSED, State.FAILED)
    more_wanted = undo and not move.undo
    _check_state(job, "aborted", *may, *((State.ABORTING,) if more_wanted else ()))
    ending = replace(job, state=State.ABORTING, note="", move=replace(move, undo=undo))
    return ending, _changing(found, ending)


def found_move(found: View, name: str) -> tuple[Job, Move]:
    """Raises NotDone where there is no such job, or it is none of ours."""
    job = found.job(name)
    if job.move is None:
        raise NotDone(f"job {name} does not move sections: it changes the replicas of a Set")
    return job, job.move


def _turned(
    found: View, name: str, how: str, may: tuple[State, ...], then: State
) -> tuple[Job, Change]:
    job, _ = found_move(found, name)
    _check_state(job, how, *may)
    turned = replace(job, state=then)
    return turned, _changing(found, turned)


def _changing(found: View, job: Job) -> Change:
    key = job_key(job.id)
    return Change(found.at(key), {key: job.to_json()})


def _check_state(job: Job, how: str, *may: State) -> None:
    if job.state not in may:
        states = " or ".join(state.value for state in may)
        note = f" ({job.note})" if job.note else ""
        raise NotDone(f"job {job.id} is {job.state.value}{note}: only a {states} one can be {how}")


def _check_held(move: Move, strange: list[Range]) -> None:
    if strange:
        raise NotDone(f"sections {shown(strange)} are not of Set {move.source}")


def _wanted(held: tuple[Range, ...], asked: Asked) -> tuple[Range, ...]:
    if not held:
        raise NotDone(f"Set {asked.source} has no sections")
    if asked.which == ALL:
        return held
    if isinstance(asked.which, str):
        return _upper_half(held, asked.source)
    strange = minus(asked.which, held)
    if strange:
        raise NotDone(f"sections {shown(strange)} are not of Set {asked.source}: {shown(held)} are")
    return asked.which


def _upper_half(held: tuple[Range, ...], name: str) -> tuple[Range, ...]:
    left = sum(span.sections for span in held) // 2
    if not left:
        raise NotDone(f"Set {name} has one section only, which cannot be halved")
    taken: list[Range] = []
    for span in reversed(held):
        part = Range(max(span.first, span.last - left + 1), span.last)
        taken.append(part)
        left -= part.sections
        if not left:
            break
    return tuple(reversed(taken))


def _free_name(found: View) -> str:
    number = 1
    while f"move-{number}" in found.jobs:
        number += 1
    return f"move-{number}"
