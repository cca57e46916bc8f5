"""What a run has found: as JSON, as Markdown for terminal and document."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqbench import aims
from seqbench.cases import Case
from seqbench.contestants import CONTESTANTS
from seqbench.run import Outcome
from seqbench.samples import Spread, short

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
FIGURES = ("per_s", "p50_ms", "p99_ms", "p999_ms", "max_ms", "server_us", "client_us", "cpu_us")
HEAD = (
    "| contestant | numbers/s: median (min..max) | p50 ms | p99 ms | p99.9 ms"
    " | server us | load us | guarantees |"
)
QUIET = 0.1
DISTURBED = "**{} Do not trust these figures**: measure on a machine that has nothing else to do."
Results = dict[str, Any]


def results(
    outcome: Outcome,
    scenes: Sequence[dict[str, Any]],
    where: dict[str, Any],
    cases: Sequence[Case],
    names: Sequence[str],
) -> Results:
    """Everything, with JSON's types only."""
    others = outcome.others()
    return {
        "machine": where | ({} if others is None else {"others": [others.median, others.high]}),
        "contestants": {name: _described(name, outcome) for name in names},
        "missing": outcome.missing,
        "failures": outcome.failures,
        "cases": {case.name: _case(case, outcome, names) for case in cases},
        "aims": aims.judged(outcome),
        "timeline": list(scenes),
    }


def _described(name: str, outcome: Outcome) -> dict[str, str]:
    one, promise = CONTESTANTS[name], CONTESTANTS[name].promise
    told = {"title": one.title, "guarantees": promise.short, "durable": promise.durable}
    told |= {"order": promise.ordered, "dies": promise.dies}
    return told | ({"missing": outcome.missing[name]} if name in outcome.missing else {})


def _case(case: Case, outcome: Outcome, names: Sequence[str]) -> dict[str, Any]:
    rows = {}
    for name in case.contestants:
        if name not in names:
            continue
        spreads = {figure: outcome.spread(case.name, name, figure) for figure in FIGURES}
        rows[name] = {
            "rounds": list(outcome.of(case.name, name)),
            **{f: [s.median, s.low, s.high] for f, s in spreads.items() if s is not None},
        }
    return {"title": case.title, "callers": case.callers, "batch": case.batch, "rows": rows}


def text(found: Results) -> str:
    """The tables, as Markdown."""
    parts = [_machine(found["machine"]), "### Aims\n\n" + _aims(found["aims"])]
    parts += ["### What they guarantee\n\n" + _guarantees(found["contestants"])]
    parts += [
        f"### {name}: {case['title']}\n\n{_rows(case, found)}"
        for name, case in found["cases"].items()
    ]
    parts += ["### Latency over time\n\n" + _scenes(found["timeline"])] if found["timeline"] else []
    parts += ["### A flood\n\n" + _flood(found["flood"])] if found.get("flood") else []
    if found["failures"]:
        parts.append("### Failed\n\n" + "\n".join(f"* {line}" for line in found["failures"]))
    return "\n\n".join(parts) + "\n"


def _machine(where: dict[str, Any]) -> str:
    whole = (
        f"{where['cpu']}, {where['cores']} cores (servers on core {where['core_of_servers']}, load"
        f" on core {where['core_of_load']}), Linux {where['kernel']}, Python {where['python']};"
        f" {where['rounds']} rounds of {where['seconds']:g} s, {where['minutes']} minutes in all,"
        f" {where['time']} UTC."
    )
    if "others" not in where:
        return whole
    median, most = where["others"]
    took = f"Other processes took {median:.2f} of a core meanwhile (median; {most:.2f} at most)."
    return f"{whole} {took if median < QUIET else DISTURBED.format(took)}"


def _aims(rows: Sequence[dict[str, Any]]) -> str:
    lines = ["| figure | aim | measured | by CPU time | reached |", "|---|---|---|---|---|"]
    lines += [
        f"| {r['figure']} | {r['aim']} | {r['words']} | {r['by_cpu']} | {r['reached']} |"
        for r in rows
    ]
    return "\n".join(lines)


def _guarantees(contestants: dict[str, dict[str, str]]) -> str:
    lines = ["| contestant | durable | order | when it dies |", "|---|---|---|---|"]
    for name, told in contestants.items():
        gone = f" (**missing**: {told['missing']})" if "missing" in told else ""
        cells = (f"{name}: {told['title']}{gone}", told["durable"], told["order"], told["dies"])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _rows(case: dict[str, Any], found: Results) -> str:
    lines = [HEAD, "|---|---:|---:|---:|---:|---:|---:|---|"]
    for name, row in case["rows"].items():
        keeps = CONTESTANTS[name].promise.short
        if name in found["missing"]:
            lines.append(f"| {name} | missing: {found['missing'][name]} | | | | | | {keeps} |")
        elif "per_s" not in row:
            lines.append(f"| {name} | failed, see below | | | | | | {keeps} |")
        else:
            cells = [str(Spread(*row["per_s"]))]
            cells += [short(row[f][0]) if f in row else "" for f in FIGURES[1:4]]
            cells += [short(row[f][0]) if f in row else "" for f in FIGURES[5:7]]
            lines.append(f"| {name} | {' | '.join(cells)} | {keeps} |")
    return "\n".join(lines)


def _scenes(scenes: Sequence[dict[str, Any]]) -> str:
    hidden = ("name", "columns", "slices")
    lines = []
    for scene in scenes:
        facts = [
            f"{key.replace('_', ' ')}: {short(value) if isinstance(value, float) else value}"
            for key, value in scene.items()
            if key not in hidden
        ]
        lines.append(f"* {scene['name']}: {', '.join(facts)}")
    return "\n".join(lines)


def _flood(found: dict[str, Any]) -> str:
    moved = "some" if found["map_changed"] else "none"
    lines = [
        f"* {kind}: {found['capacity_per_s'][kind]:,.0f} messages/s when asked by few;"
        f" {said['offered']:,} offered to one node in {found['until_s']:.0f} s,"
        f" {said['answered']:,} answered"
        for kind, said in found["floods"].items()
    ]
    lines += [
        f"* callers that behave, on all nodes: {found['answered']:,} answered,"
        f" {found['failed']} failed, {found['violations']} violations",
        f"* least of the lease left: {found['least_lease_left_s']:.2f} s; epochs changed:"
        f" {found['epoch_changes']:.0f}; sections moved: {moved}",
        f"* most memory of the node: {found['most_memory_mb']:.0f} MB",
    ]
    return "\n".join(lines)


def write_into(document: Path, tables: str) -> None:
    """Put the tables between the two marks of a document. ValueError where it has none."""
    whole = document.read_text()
    head, begin, rest = whole.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{document} lacks the marks {BEGIN} and {END}")
    document.write_text(f"{head}{begin}\n{tables}{end}{tail}")
