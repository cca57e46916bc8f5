"""What stands in a file of floors, line by line, and what became of its lines. Pure.

A line is `uid,floor`. The first one may be a heading; blank ones are passed over; blanks, a byte
order mark and double quotes around a number do no harm.
"""

from dataclasses import dataclass, field
from heapq import heappush, heappushpop
from typing import NamedTuple

from seqctl.arguments import UID_CEILING
from seqsvr.sections import SEQ_LIMIT

SHOWN = 10
"""Jumps and sections that a summary names."""


class Floor(NamedTuple):
    """One line, read."""

    line: int
    uid: int
    floor: int


class Jump(NamedTuple):
    """How far a line raises its uid."""

    by: int
    line: int
    uid: int
    floor: int


def parse_floor(number: int, line: bytes, uid_limit: int) -> Floor | None:
    """What a line says; None if nothing. Raises ValueError saying what is wrong with it."""
    text = line.removeprefix(b"\xef\xbb\xbf").strip()
    if not text:
        return None
    cells = [cell.strip().strip(b'"') for cell in text.split(b",")]
    if number == 1 and [cell.lower() for cell in cells] == [b"uid", b"floor"]:
        return None
    if len(cells) != 2:
        raise ValueError("must be uid,floor")
    uid = _decimal(cells[0], "uid", min(uid_limit, UID_CEILING) - 1)
    return Floor(number, uid, _decimal(cells[1], "floor", SEQ_LIMIT))


def _decimal(cell: bytes, name: str, most: int) -> int:
    if not (cell.isdigit() and len(cell) <= 30) or int(cell) > most:
        raise ValueError(f"{name} must be an integer in 0..{most}")
    return int(cell)


@dataclass(slots=True)
class Summary:
    """Lines by what became of them (`lines` is their sum), the largest jumps, and the highest
    floors by section: as high as its uids may be after a crash. Takes no more room for more lines.
    """

    section_size: int
    lines: int = 0
    advanced: int = 0
    already: int = 0
    refused: int = 0
    numbers: int = 0
    _jumps: list[Jump] = field(default_factory=list)
    _ceilings: dict[int, int] = field(default_factory=dict)

    def stood(self) -> None:
        """A line whose uid stands as high already."""
        self.lines += 1
        self.already += 1

    def refuse(self) -> None:
        """A line that is not to be done."""
        self.lines += 1
        self.refused += 1

    def rose(self, floor: Floor, by: int) -> None:
        """A line that raised its uid."""
        self.lines += 1
        self.advanced += 1
        self.numbers += by
        push = heappush if len(self._jumps) < SHOWN else heappushpop
        push(self._jumps, Jump(by, floor.line, floor.uid, floor.floor))
        self._note_ceiling(floor.uid // self.section_size, floor.floor)

    def _note_ceiling(self, section: int, floor: int) -> None:
        """Of the highest only: they never fall, so one that was dropped comes back if it counts."""
        held = self._ceilings
        if floor <= held.get(section, 0):
            return
        held[section] = floor
        if len(held) > SHOWN:
            del held[min(held, key=lambda section: held[section])]

    @property
    def jumps(self) -> list[Jump]:
        """The largest, from the largest on."""
        return sorted(self._jumps, reverse=True)

    @property
    def ceilings(self) -> list[tuple[int, int]]:
        """(section, floor) of the highest, from the highest on."""
        return sorted(self._ceilings.items(), key=lambda item: -item[1])

    def as_json(self, *, dry_run: bool) -> dict[str, object]:
        counts = ("lines", "advanced", "already", "refused", "numbers")
        return {
            **{name: getattr(self, name) for name in counts},
            "dry_run": dry_run,
            "jumps": [jump._asdict() for jump in self.jumps],
            "ceilings": [{"section": s, "ceiling": floor} for s, floor in self.ceilings],
        }

    def rows(self, *, dry_run: bool) -> list[tuple[str, str]]:
        """Of a table."""
        rows = [
            ("lines", f"{self.lines:,}"),
            ("would rise" if dry_run else "advanced", f"{self.advanced:,}"),
            ("already there", f"{self.already:,}"),
            ("refused", f"{self.refused:,}"),
            ("by, together", f"{self.numbers:,}"),
        ]
        rows += [
            (f"line {jump.line}", f"uid {jump.uid} to {jump.floor:,}, by {jump.by:,}")
            for jump in self.jumps
        ]
        rows += [(f"section {section}", f"up to {floor:,}") for section, floor in self.ceilings]
        return rows
