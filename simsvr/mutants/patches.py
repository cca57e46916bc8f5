"""What a planted bug is. Pure.

A bug is planted in today's source or not at all: each old text must occur exactly once in its file,
and a test sees to it that it does.
"""

from dataclasses import dataclass

INVARIANT = "INVARIANT"
"""In the place of a promise: a program stopped itself, or a checker of no promise saw it."""


class DoesNotApply(Exception):
    """The source has changed since the bug was written."""


@dataclass(frozen=True, slots=True)
class Hunk:
    """One place: `old`, which occurs once in the file at `path` (from the root), becomes `new`."""

    path: str
    old: str
    new: str

    def applied(self, text: str) -> str:
        """The file with the bug in it. Raises DoesNotApply."""
        count = text.count(self.old)
        if count != 1:
            raise DoesNotApply(f"{self.path}: occurs {count} times, not once: {self.old!r}")
        if self.old == self.new:
            raise DoesNotApply(f"{self.path}: changes nothing")
        return text.replace(self.old, self.new)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A planted bug.

    breaks: ids of promises (seqcheck.CHECKERS, or INVARIANT) that it breaks, of which any may be
    seen to be broken first; nothing else counts as having caught it.
    why: what goes wrong, in one line. with_it: defences that had to be taken away too, because with
    them the bug does no harm; why that is so.
    """

    name: str
    breaks: tuple[str, ...]
    why: str
    hunks: tuple[Hunk, ...]
    with_it: str = ""
