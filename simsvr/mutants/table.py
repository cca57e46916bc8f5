"""The table of what was hunted, for docs/mutants.md. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from simsvr.mutants.patches import Mutant

HEAD = """\
<!-- Written by `python -m simsvr.mutants --write docs/mutants.md`. -->

Each row is a bug that was planted in a copy of the source, and the first seed of the simulator, of
0, 1, 2 ..., in which a checker saw it. `make mutants` repeats all of it; the sound source passes
these seeds.

"""
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
    """All of docs/mutants.md. harmless: what is not planted, and why."""
    found = list(rows)
    lines = [_line(COLUMNS), _line(["---"] * len(COLUMNS)), *(_line(_cells(row)) for row in found)]
    notes = [f"* `{row.mutant.name}`: {row.mutant.with_it}." for row in found if row.mutant.with_it]
    text = HEAD + "\n".join(lines) + "\n"
    if notes:
        text += "\nPlanted together with the removal of what makes them harmless:\n\n"
        text += "\n".join(notes) + "\n"
    left_out = [f"* {what}: {why}." for what, why in harmless]
    if left_out:
        text += "\nNot planted:\n\n" + "\n".join(left_out) + "\n"
    return text


def _cells(row: Row) -> list[str]:
    mutant = row.mutant
    seen, needed, command = "not caught", "", ""
    if row.seed is not None:
        seen, needed = row.promise, str(row.seed + 1)
        command = f"`{again(mutant.name, row.seed)}`"
    return [f"`{mutant.name}`", mutant.why, ", ".join(mutant.breaks), seen, needed, command]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
