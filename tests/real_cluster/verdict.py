"""`seqctl check` over the histories of a cluster, load after load.

What earlier loads recorded need not be read again and again: of each uid its highest hand-out, its
highest ceiling and one failed hand-out are carried over, which is all that bears on later calls. An
exact `current` need not be, since it is a number that was handed out.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from processes import seqctl


class Verdicts:
    """Judges the histories of one cluster. complete: nobody else calls these uids."""

    def __init__(self, folder: Path, *, complete: bool = True) -> None:
        self._carried = folder / "carried.jsonl"
        self._complete = complete
        self._highest: dict[tuple[str, int], tuple[int, str]] = {}

    def judge(self, histories: Sequence[Path]) -> Any:
        """What `seqctl check -o json` says of these and of all before them."""
        before = [self._carried] if self._highest else []
        more = ["--complete"] if self._complete else []
        done = seqctl("check", *more, "-o", "json", *before, *histories, timeout_s=600)
        assert done.returncode in (0, 1), done.stderr
        for history in histories:
            with history.open(encoding="ascii") as lines:
                self._carry(lines)
        self._carried.write_text("".join(line for _, line in self._highest.values()))
        return json.loads(done.stdout)

    def _carry(self, lines: Iterable[str]) -> None:
        for line in lines:
            if not line.endswith("\n"):
                continue
            call = json.loads(line)
            kind = _kind(call)
            seq, count = call["seq"] or 0, call["count"] if call["op"] == "next" else 1
            held = self._highest.get((kind, call["uid"]))
            if kind and (held is None or seq + count > held[0]):
                self._highest[kind, call["uid"]] = seq + count, line


def _kind(call: dict[str, Any]) -> str:
    """Empty: not to be carried over."""
    if call["error"] is not None:
        return "failed" if call["op"] == "next" else ""
    if call["op"] == "next":
        return "handed out"
    return "" if call["exact"] else "ceiling"
