"""What recorded histories say, read without the project's own checker."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Recorded:
    """numbers: handed out; highest: per uid, of all numbers handed out and ceilings answered."""

    calls: int = 0
    failed: int = 0
    numbers: int = 0
    epochs: set[int] = field(default_factory=set)
    highest: dict[int, int] = field(default_factory=dict)
    exact: int = 0
    ceilings: int = 0


def recorded(paths: Iterable[Path]) -> Recorded:
    """All of these histories as one."""
    found = Recorded()
    for path in paths:
        for line in path.read_text().splitlines():
            _add(found, json.loads(line))
    return found


def _add(found: Recorded, call: dict[str, int | str | None]) -> None:
    found.calls += 1
    if call["error"] is not None:
        found.failed += 1
        return
    uid, seq, count = int(call["uid"] or 0), int(call["seq"] or 0), int(call["count"] or 0)
    last = seq
    if call["op"] == "next":
        found.numbers += count
        last = seq + count - 1
    elif call["exact"]:
        found.exact += 1
    else:
        found.ceilings += 1
    if call["epoch"]:
        found.epochs.add(int(call["epoch"]))
    found.highest[uid] = max(last, found.highest.get(uid, 0))
