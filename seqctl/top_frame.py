"""One frame of `seqctl top`: what is known of a cluster, fitted to a terminal. Pure.

Wide terminals have replicas beside hot sections; low ones have fewer rows of what there is most of,
and say how many are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

_WIDE = 110
_BARS = "▁▂▃▄▅▆▇█"
_BAR_WIDTH = 10
_HOT = 10
_LEAST = 15
# What the cells beside an address take, in columns, but for long names of Sets.
_NODE_CELLS, _REPLICA_CELLS, _HOT_CELLS = 57, 46, 42
_COLOURS = {
    "serving": "green",
    "running": "green",
    "in quorum": "green",
    "done": "green",
    "leaving": "yellow",
    "draining": "yellow",
    "drained": "yellow",
    "boot grace": "yellow",
    "paused": "yellow",
    "planned": "yellow",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look found: JSON's types only, as `-o json` prints it.

    report: Report.shown; nodes, hot, jobs: rows of node list, section top, move status; trouble:
    why this look is an old one, empty where it is not; rates: numbers per second, all nodes
    together, of the last looks.
    """

    report: dict[str, Any]
    nodes: list[dict[str, Any]]
    hot: list[dict[str, Any]]
    jobs: list[dict[str, Any]]
    at: str = ""
    trouble: str = ""
    rates: Sequence[int] = field(default=())

    @property
    def per_second(self) -> int:
        """All nodes together."""
        return sum(node.get("per_second") or 0 for node in self.nodes)


def frame(seen: Seen, width: int, height: int | None) -> RenderableType:
    """At most `height` lines of `width` columns; None: as many as it takes."""
    problems = [f"! {text}" for text in seen.report["problems"]]
    if seen.trouble:
        problems.insert(0, f"! {seen.trouble}")
    running = [job for job in seen.jobs if job["state"] not in ("done", "aborted")]
    wide = _is_wide(seen, width)
    rooms = _rooms(seen, len(problems), len(running), wide, height)
    parts: list[RenderableType] = [*_head(seen, width)[:height]]
    parts += [_line(text, width, "bold red") for text in _cut(problems, rooms["problems"])]
    room = width - _REPLICA_CELLS
    tables: list[RenderableType] = []
    if rooms["nodes"]:
        tables.append(_nodes(seen, rooms["nodes"], width - _NODE_CELLS))
    below: list[RenderableType] = []
    if rooms["replicas"]:
        below.append(_replicas(seen, rooms["replicas"], room))
    if rooms["hot"]:
        below.append(_hot(seen, rooms["hot"], room))
    tables += [_beside(below)] if wide and below else below
    if rooms["jobs"]:
        tables.append(_jobs(running, rooms["jobs"]))
    return Group(*parts, *(part for table in tables for part in (Text(), table)))


def _is_wide(seen: Seen, width: int) -> bool:
    """Whether replicas and hot sections fit beside each other."""
    rows = (*seen.report["replicas"], *seen.hot)
    longest = max((len(row["address"]) for row in rows), default=0)
    return width >= max(_WIDE, _REPLICA_CELLS + _HOT_CELLS + 2 * longest)


def _beside(tables: Sequence[RenderableType]) -> Table:
    grid = Table.grid(padding=(0, 4, 0, 0))
    grid.add_row(*tables)
    return grid


def sparkline(values: Sequence[int]) -> str:
    """One block per value, as high as it is beside the highest."""
    top = max(values, default=0) or 1
    return "".join(_BARS[min(len(_BARS) - 1, value * len(_BARS) // (top + 1))] for value in values)


def plain(text: str) -> str:
    """The same on one line: what others have written may be of several, or steer a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def short(address: str, room: int) -> str:
    """The same, with what does not fit left out before the port."""
    address = plain(address)
    host, _, port = address.rpartition(":")
    over = len(address) - max(room, _LEAST)
    return address if over <= 0 else f"{host[: len(host) - over - 1]}…:{port}"


def bar(part: float) -> str:
    """Of _BAR_WIDTH columns, `part` of them full."""
    full = round(max(0.0, min(1.0, part)) * _BAR_WIDTH)
    return "█" * full + "·" * (_BAR_WIDTH - full)


_HEADINGS = {"nodes": 2, "replicas": 2, "hot": 2, "jobs": 2, "problems": 0}
"""Lines of each part beside its rows: a blank one, and the headings."""
_LEAST_FIRST = ("hot", "jobs", "replicas", "nodes", "problems")


def _rooms(seen: Seen, problems: int, jobs: int, wide: bool, height: int | None) -> dict[str, int]:
    """How many rows each part may have; who has most gives first, as far as one."""
    there = {
        "problems": problems,
        "nodes": len(seen.nodes),
        "replicas": len(seen.report["replicas"]),
        "hot": min(_HOT if height is None else height, len(seen.hot)),
        "jobs": jobs,
    }
    rooms = dict(there)
    while height is not None and _lines(rooms, there, wide) > height and max(rooms.values()) > 1:
        most = max(rooms, key=lambda name: (rooms[name], name))
        rooms[most] -= 1
    for name in _LEAST_FIRST:  # one row of each is too much still
        if height is not None and _lines(rooms, there, wide) > height:
            rooms[name] = 0
    return rooms


def _lines(rooms: dict[str, int], there: dict[str, int], wide: bool) -> int:
    """What they take, with headings, and a line that says how many are left out."""
    cut = {name for name in ("nodes", "replicas", "jobs") if rooms[name] < there[name]}
    taken = {
        name: rows + _HEADINGS[name] + (name in cut) if rows else 0 for name, rows in rooms.items()
    }
    if wide:
        taken["hot"], taken["replicas"] = max(taken["hot"], taken["replicas"]), 0
    return 2 + sum(taken.values())


def _head(seen: Seen, width: int) -> list[RenderableType]:
    cluster = seen.report["cluster"]
    name = cluster["id"] if cluster else "no cluster"
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"seqsvr {name}", "bold")
    count = len(seen.report["problems"])
    well = seen.report["well"] and not seen.trouble
    state = "old news" if seen.trouble else f"{count} problem{'s'[: count != 1]}"
    line.append("  all is well" if well else f"  {state}", "green" if well else "bold red")
    line.append(f"  {seen.at}".rjust(max(0, width - line.cell_len)), "dim")
    rate = Text(no_wrap=True, overflow="ellipsis")
    rate.append(f"{seen.per_second:,}", "bold")
    rate.append(" numbers/s ")
    rate.append(sparkline(seen.rates), "cyan")
    leader = plain(seen.report["leaders"].get("arbiter", "none"))
    sections = f"{cluster['sections']:,} sections" if cluster else ""
    rest = f"  {sections}  arbiter {leader}  routes v{seen.report['route_version']}"
    rate.append(rest, "dim")
    rate.truncate(width, overflow="ellipsis")
    return [line, rate]


def _nodes(seen: Seen, room: int, name: int) -> Table:
    table = _table("NODE", "SET", "STATE", ">SECTIONS", ">SERVES", ">NUMBERS/S", "SHARE")
    top = seen.per_second or 1
    rows = sorted(seen.nodes, key=lambda row: (row["set"], row["address"]))
    for row in rows[:room]:
        rate = row.get("per_second")
        state = row["state"] if row.get("alive", False) or row["state"] != "serving" else "silent"
        table.add_row(
            Text(short(row["address"], name)),
            Text(row["set"]),
            _state(state),
            _number(row["sections"]),
            _number(row.get("serving")),
            _number(rate),
            Text(bar((rate or 0) / top), "cyan"),
        )
    return _closed(table, len(rows) - room)


def _replicas(seen: Seen, room: int, name: int) -> Table:
    table = _table("REPLICA", "SET", "STATE", ">SECTIONS", ">LEASES")
    rows = seen.report["replicas"]
    for row in rows[:room]:
        state = "in quorum"
        if not row["reachable"]:
            state = "unreachable"
        elif row["out_of_quorum"]:
            state = "out of quorum"
        elif row["boot_grace_s"]:
            state = "boot grace"
        leases = len(row["leases"]) if row["leases"] is not None else None
        table.add_row(
            Text(f"{row['name']} {short(row['address'], name)}"),
            Text(row["set"]),
            _state(state),
            _number(row["sections"]),
            _number(leases),
        )
    return _closed(table, len(rows) - room)


def _hot(seen: Seen, room: int, name: int) -> Table:
    table = _table(">HOT SECTION", "NODE", ">NUMBERS/S", ">OF NODE", "PINNED")
    for row in seen.hot[:room]:
        table.add_row(
            _number(row["section"]),
            Text(short(row["address"], name)),
            _number(row["per_second"]),
            Text(f"{100 * row['share']:.0f} %"),
            Text("yes" if row["pinned_to"] else ""),
        )
    return _closed(table, 0)


def _jobs(jobs: Sequence[dict[str, Any]], room: int) -> Table:
    table = _table("JOB", "STATE", "DONE", "", "NOTE")
    for job in jobs[:room]:
        total, done = job.get("sections"), job.get("moved")
        part = bar(done / total) if total and done is not None else ""
        counts = f"{done:,} of {total:,}" if total and done is not None else ""
        table.add_row(
            Text(job["id"]),
            _state(job["state"]),
            Text(part, "cyan"),
            Text(counts),
            Text(plain(job["note"])),
        )
    return _closed(table, len(jobs) - room)


def _table(*headings: str) -> Table:
    """A heading that begins with > is of numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in headings:
        right = heading.startswith(">")
        table.add_column(
            heading.removeprefix(">"),
            justify="right" if right else "left",
            no_wrap=True,
            overflow="ellipsis",
        )
    return table


def _closed(table: Table, left_out: int) -> Table:
    if left_out > 0:
        text = f"and {left_out} more"
        table.caption = Text(text, no_wrap=True, overflow="ellipsis")
        table.caption_justify = "left"
    return table


def _state(text: str) -> Text:
    return Text(text, _COLOURS.get(text, "bold red"))


def _number(value: int | None) -> Text:
    return Text("" if value is None else f"{value:,}")


def _cut(lines: Sequence[str], room: int) -> list[str]:
    if len(lines) <= room or not room:
        return list(lines[:room])
    kept = room - 1
    return [*lines[:kept], f"! and {len(lines) - kept} more problems: seqctl cluster status"]


def _line(text: str, width: int, style: str) -> Text:
    line = Text(plain(text), style, no_wrap=True)
    line.truncate(width, overflow="ellipsis")
    return line
