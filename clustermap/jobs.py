"""Jobs: changes of a cluster that take many steps, journalled in the map. Pure values.

`seqctl` writes a job and what is wanted of it (`state`), the arbiter that leads does the steps.
What a step needs to know is read from the map and from the replicas again each time, so that any
step may be repeated, by another arbiter, at any later time; the job's document only says what was
asked for and how far it has come. It is written by compare-and-swap, as everything here.

    PLANNED --start--> RUNNING --all steps--> DONE
                        |   ^  \\--cannot be done--> FAILED (start again: RUNNING)
                  pause |   | resume
                        v   |
                       PAUSED --abort--> ABORTING --taken back--> ABORTED    (RUNNING likewise)

Key: jobs/<id>. Two unfinished jobs never concern the same Set: whoever starts one expects in the
transaction that no other has changed since it looked.
"""

from dataclasses import dataclass
from enum import Enum

from clustermap.documents import U64_MAX, Fields, decode, encode, hex64
from clustermap.model import Quorum, Replica, check_id, check_name, check_replicas
from clustermap.ranges import SECTION_MAX, Range, check_ranges

JOBS_PREFIX = "jobs/"


def job_key(name: str) -> str:
    return JOBS_PREFIX + name


class State(Enum):
    """Of a job; see the head of the module."""

    PLANNED = "planned"
    RUNNING = "running"
    PAUSED = "paused"
    ABORTING = "aborting"
    DONE = "done"
    ABORTED = "aborted"
    FAILED = "failed"


ACTIVE = frozenset({State.RUNNING, State.ABORTING})
"""The arbiter works on jobs in these states only, but for what a paused move has begun."""
FINISHED = frozenset({State.DONE, State.ABORTED})
"""Nothing is left to be done, and nothing is left behind."""


@dataclass(frozen=True, slots=True)
class Move:
    """Sections from the Set `source` to the Set `target`.

    ranges: by rising section; chunk: how many sections at a time; incarnation: by which the job
    wins sections, as an owner would; moved: how many are the target's by now, for showing; undo: an
    abort takes back what is the target's by then, else that stays.
    """

    source: str
    target: str
    ranges: tuple[Range, ...]
    incarnation: int
    chunk: int
    moved: int = 0
    undo: bool = False

    def __post_init__(self) -> None:
        check_name("Set", self.source)
        check_name("Set", self.target)
        if self.source == self.target:
            raise ValueError(f"sections cannot move from Set {self.source!r} to itself")
        check_id("incarnation", self.incarnation)
        if not self.ranges:
            raise ValueError("a move needs sections")
        check_ranges("a move", self.ranges)

    @property
    def sections(self) -> int:
        return sum(span.sections for span in self.ranges)

    def fields(self) -> dict[str, object]:
        return {
            "source": self.source,
            "target": self.target,
            "ranges": [span.fields() for span in self.ranges],
            "incarnation": hex64(self.incarnation),
            "chunk": self.chunk,
            "moved": self.moved,
            **({"undo": True} if self.undo else {}),
        }

    @classmethod
    def read(cls, fields: Fields) -> "Move":
        return cls(
            fields.text("source"),
            fields.text("target"),
            fields.many("ranges", Range.read),
            fields.hex64("incarnation"),
            fields.integer("chunk", 1, SECTION_MAX),
            fields.integer("moved", 0, U64_MAX),
            fields.mark("undo"),
        )


@dataclass(frozen=True, slots=True)
class Reform:
    """The Set `set` is to have these replicas and quorum sizes, whatever it has now.

    copied: sections that the newcomers have by now, for showing; leaving: who is no replica any
    more, once that is so, to be told of it.
    """

    set: str
    replicas: tuple[Replica, ...]
    r: int
    w: int
    copied: int = 0
    leaving: tuple[Replica, ...] = ()

    def __post_init__(self) -> None:
        check_name("Set", self.set)
        check_replicas(self.set, self.replicas)
        _ = Quorum(len(self.replicas), self.r, self.w)  # refuses sizes that do not meet

    def fields(self) -> dict[str, object]:
        return {
            "set": self.set,
            "replicas": [replica.fields() for replica in self.replicas],
            "r": self.r,
            "w": self.w,
            "copied": self.copied,
            **({"leaving": [one.fields() for one in self.leaving]} if self.leaving else {}),
        }

    @classmethod
    def read(cls, fields: Fields) -> "Reform":
        return cls(
            fields.text("set"),
            fields.many("replicas", Replica.read),
            fields.integer("r", 1, U64_MAX),
            fields.integer("w", 1, U64_MAX),
            fields.integer("copied", 0, U64_MAX),
            fields.maybe_many("leaving", Replica.read),
        )


@dataclass(frozen=True, slots=True)
class Job:
    """One job: exactly one of move and reform is given.

    by: who asked for it; created_s: seconds since 1970; note: what it does or waits for just now,
    or why it failed.
    """

    id: str
    state: State
    by: str
    created_s: int
    note: str = ""
    move: Move | None = None
    reform: Reform | None = None

    def __post_init__(self) -> None:
        check_name("job", self.id)
        if (self.move is None) == (self.reform is None):
            raise ValueError("a job is either a move or a reform")

    @property
    def sets(self) -> frozenset[str]:
        """The Sets that it concerns."""
        if self.move is not None:
            return frozenset({self.move.source, self.move.target})
        return frozenset({self.reform.set} if self.reform is not None else ())

    def to_json(self) -> bytes:
        return encode(
            {
                "id": self.id,
                "state": self.state.value,
                "by": self.by,
                "created_s": self.created_s,
                "note": self.note,
                **({"move": self.move.fields()} if self.move else {}),
                **({"reform": self.reform.fields()} if self.reform else {}),
            }
        )

    @classmethod
    def from_json(cls, raw: bytes) -> "Job":
        """Raises MapCorrupt."""
        return decode("job", raw, cls._read)

    @classmethod
    def _read(cls, fields: Fields) -> "Job":
        return cls(
            fields.text("id"),
            State(fields.text("state")),
            fields.text("by"),
            fields.integer("created_s", 0, U64_MAX),
            fields.text("note"),
            fields.maybe("move", Move.read),
            fields.maybe("reform", Reform.read),
        )
