"""What a request may ask of a replica. Whatever passes these cannot harm what is stored.

Everything else is refused as a whole, as MALFORMED, before anything is staged.
"""

from collections.abc import Iterable, Sequence
from typing import NoReturn

from clustermap.errors import ReplicaFailed
from seqsvr.sections import SEQ_LIMIT, Layout
from storesvr.records import Record

MAX_SECTIONS = 4_096
MAX_EPOCH = 2**63 - 1
_SNAPSHOT_CAP = 16 * 2**20

Range = tuple[int, int, int]  # first, last (inclusive), epoch


class Bounds:
    """The bounds of one layout. Every method raises ReplicaFailed MALFORMED.

    max_snapshot: bytes; room for ten bytes per uid and a head, at most 16 MiB.
    """

    __slots__ = ("layout", "max_snapshot")

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.max_snapshot = min(4096 + 10 * layout.section_size, _SNAPSHOT_CAP)

    def expand(self, ranges: Sequence[Range]) -> list[tuple[int, int]]:
        """(section, epoch) of each section of the ranges, in order."""
        count = 0
        for first, last, epoch in ranges:
            if first > last:
                malformed(f"range {first}..{last} is upside down")
            count += last - first + 1
            check_count(count)
            self.epochs(((first, epoch), (last, epoch)))
        return [
            (section, epoch) for first, last, epoch in ranges for section in range(first, last + 1)
        ]

    def entries(self, incarnation: int, entries: Sequence[tuple[int, int, object]]) -> None:
        """(section, epoch, something) of an incarnation's own."""
        check_incarnation(incarnation)
        check_count(len(entries))
        self.epochs((section, epoch) for section, epoch, _ in entries)

    def seals(self, entries: Sequence[tuple[int, int]]) -> None:
        """(section, epoch) each."""
        check_count(len(entries))
        self.epochs(entries)

    def raises(self, incarnation: int, entries: Sequence[Range]) -> None:
        """(section, epoch, max_seq) of an incarnation's own."""
        check_incarnation(incarnation)
        check_count(len(entries))
        sections = self.layout.sections
        for section, epoch, max_seq in entries:
            if not (
                0 <= section < sections and 1 <= epoch <= MAX_EPOCH and 0 <= max_seq <= SEQ_LIMIT
            ):
                self.epochs([(section, epoch)])
                self.max_seq(section, max_seq)

    def epochs(self, entries: Iterable[tuple[int, int]]) -> None:
        """Sections of the layout; epochs start at 1."""
        sections = self.layout.sections
        for section, epoch in entries:
            if not 0 <= section < sections:
                malformed(f"section {section} is not below {sections}")
            if not 1 <= epoch <= MAX_EPOCH:
                malformed(f"section {section}: epoch {epoch} is not in 1..{MAX_EPOCH}")

    def theirs(self, theirs: Record, payload: bytes) -> None:
        """A record of another replica."""
        ours = (theirs.owner_epoch, theirs.promised, theirs.sealed)
        self.epochs((theirs.section, epoch or 1) for epoch in ours)
        if theirs.owner_epoch:
            check_incarnation(theirs.owner)
        elif theirs.owner or theirs.released or theirs.has_snapshot:
            malformed(f"section {theirs.section}: an owner without an epoch")
        self.max_seq(theirs.section, theirs.max_seq)
        self.snapshot(theirs.section, payload)

    def max_seq(self, section: int, max_seq: int) -> None:
        if not 0 <= max_seq <= SEQ_LIMIT:
            malformed(f"section {section}: max_seq {max_seq} is above {SEQ_LIMIT}")

    def snapshot(self, section: int, payload: bytes) -> None:
        if len(payload) > self.max_snapshot:
            malformed(f"section {section}: snapshot is larger than {self.max_snapshot} bytes")

    def span(self, first: int, last: int) -> int:
        """The last section that there is of first..last."""
        if first > last or first >= self.layout.sections:
            malformed(f"no sections in {first}..{last} (of {self.layout.sections})")
        return min(last, self.layout.sections - 1)


def check_count(count: int) -> None:
    """How many sections one request may name."""
    if count > MAX_SECTIONS:
        malformed(f"more than {MAX_SECTIONS} sections in a request")


def check_incarnation(incarnation: int) -> None:
    """0 is nobody."""
    if not incarnation:
        malformed("incarnation 0")


def malformed(text: str) -> NoReturn:
    """Refuse the request."""
    raise ReplicaFailed("MALFORMED", text)
