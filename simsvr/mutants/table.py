"""The table of what was hunted, for docs/TESTING.md. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from simsvr.mutants.patches import Mutant

BEGIN = "<!-- planted bugs: python -m simsvr.mutants --write docs/TESTING.md -->"
END = "<!-- end of planted bugs -->"
COLUMNS = ("bug", "what goes wrong", "breaks", "seen by", "seeds needed", "again")


@dataclass(frozen=True, slots=True)
class Row:
    """A bug and what came of it; seed None: it was not caught."""

    mutant: Mutant
    seed: int | None
    promise: str

    @property
    def caught(self) -> bool:
        return self.seed is not None


def again(name: str, seed: int) -> str:
    """The command that shows it."""
    return f"python -m simsvr.mutants --only {name} --seed {seed}"


def written(rows: Iterable[Row], harmless: Iterable[tuple[str, str]] = ()) -> str:
    """The table and its notes. harmless: what is not planted, and why."""
    found = list(rows)
    lines = [_line(COLUMNS), _line(["---"] * len(COLUMNS)), *(_line(_cells(row)) for row in found)]
    notes = [f"* `{row.mutant.name}`: {row.mutant.with_it}." for row in found if row.mutant.with_it]
    text = "\n".join(lines) + "\n"
    if notes:
        text += "\nPlanted together with the removal of what makes them harmless:\n\n"
        text += "\n".join(notes) + "\n"
    left_out = [f"* {what}: {why}." for what, why in harmless]
    if left_out:
        text += "\nNot planted:\n\n" + "\n".join(left_out) + "\n"
    return text


def inserted(document: str, table: str) -> str:
    """The document with this table between its marks. Raises ValueError where it has none."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"there is no place between {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{table}\n{END}{after}"


def _cells(row: Row) -> list[str]:
    mutant = row.mutant
    seen, needed, command = "not caught", "", ""
    if row.seed is not None:
        seen, needed = row.promise, str(row.seed + 1)
        command = f"`{again(mutant.name, row.seed)}`"
    return [f"`{mutant.name}`", mutant.why, ", ".join(mutant.breaks), seen, needed, command]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
