"""Invariants that hold in production too: they do not vanish under `python -O`.

A broken one is a bug of ours, never a caller's error: shells let it end the process.
"""


class BrokenInvariant(AssertionError):
    """The program has contradicted itself and must not hand out another number."""


def require(holds: bool, what: str) -> None:
    """Raise BrokenInvariant unless `holds`; `what` says what should have been true."""
    if not holds:
        raise BrokenInvariant(what)
