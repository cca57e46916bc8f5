"""Tracebacks in logs that grow, without reading again what was read before."""

from collections.abc import Iterable
from pathlib import Path

_SIGN = b"Traceback"
_SHOWN = 4_000


class Traces:
    """Looks at the standard error of programs by name; see Program for where it is."""

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        self._folder, self._names = folder, list(names)
        self._read: dict[Path, int] = {}

    def found(self) -> str:
        """The first Traceback that any program wrote since the last time; empty if none did."""
        for name in self._names:
            for file in sorted(self._folder.glob(f"{name}-*.err")):
                if trace := self._in(file):
                    return f"{file.name}: {trace}"
        return ""

    def _in(self, file: Path) -> str:
        # The sign itself may be cut in two by the end of what is there.
        start = max(0, self._read.get(file, 0) - len(_SIGN))
        with file.open("rb") as log:
            log.seek(start)
            text = log.read()
        self._read[file] = start + len(text)
        at = text.find(_SIGN)
        return text[at : at + _SHOWN].decode(errors="replace") if at >= 0 else ""
