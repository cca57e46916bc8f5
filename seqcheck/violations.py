"""What a checker says: that a promise was broken, when, and which events or calls show it.

Checkers that follow a run as it happens are `Checker`s: fed with events in true time, they answer
each with None or a `Violation`, and keep those in `violations`. They never raise for what they are
there to find; a caller that contradicts itself (an answer to a call that never began) breaks an
invariant instead, since then nothing that the checker says could be trusted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from seqcheck.calls import Call


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at an instant of true time (nanoseconds), as evidence."""

    at_ns: int
    what: str
    about: Mapping[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        about = " ".join(f"{name}={value}" for name, value in self.about.items())
        return f"{seconds(self.at_ns)} {self.what} {about}".rstrip()


def event(at_ns: int, what: str, **about: object) -> Event:
    """An event with its details by name."""
    return Event(at_ns, what, about)


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise (its id in docs/PROTOCOL.md) that does not hold.

    evidence: what cannot all be true together, oldest first: calls as clients saw them, or events.
    at_ns: when the last of them came to be known, on the clock of the evidence.
    uid: set where it is about one.
    """

    promise: str
    text: str
    evidence: tuple[Call | Event, ...]
    at_ns: int
    uid: int | None = None

    @property
    def calls(self) -> tuple[Call, ...]:
        """The calls among the evidence."""
        return tuple(item for item in self.evidence if isinstance(item, Call))

    def __str__(self) -> str:
        about = "" if self.uid is None else f" for uid {self.uid}"
        head = f"{self.promise} broken{about} at {seconds(self.at_ns)}: {self.text}"
        return "\n".join([head, *(f"  {item}" for item in self.evidence)])


class Checker:
    """Follows a run. `promise`: the id it checks; `violations`: all it has found, oldest first."""

    promise: ClassVar[str]
    __slots__ = ("violations",)

    def __init__(self) -> None:
        self.violations: list[Violation] = []

    def _broken(self, at_ns: int, text: str, *evidence: Event, uid: int | None = None) -> Violation:
        violation = Violation(self.promise, text, evidence, at_ns, uid)
        self.violations.append(violation)
        return violation


def seconds(at_ns: int) -> str:
    """An instant for people to read: seconds with nine digits, exact."""
    whole, rest = divmod(at_ns, 1_000_000_000)
    return f"{whole}.{rest:09d}s"
