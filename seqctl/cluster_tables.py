"""The report of `seqctl cluster status` as tables. Scripts read its JSON instead."""

from typing import Any

from seqctl.output import print_table, say

# What nodes say of themselves, beside what the map says.
_OWN = ("serves", "acquires", "gives up")
_SETS = ("Set", "range", "N/R/W", "membership", "assigned", "leaving", "unassigned", *_OWN)
_REPLICAS = (
    *("Set", "replica", "address", "store", "reachable", "in quorum", "sections"),
    *("fence version", "boot grace", "leases", "error"),
)
_NODES = (
    *("Set", "node", "address", "registered", "alive", "draining", "leased", "numbers/s"),
    *("sections", *_OWN, "error"),
)


def print_report(shown: dict[str, Any]) -> None:
    """The fields of Report.shown."""
    say(_headline(shown))
    say()
    print_sets(shown["sets"])
    say()
    print_table(_REPLICAS, (_replica(one) for one in shown["replicas"]))
    say()
    print_table(_NODES, (_node(one) for one in shown["nodes"]))
    say()
    for job in shown["jobs"]:
        sets = " and ".join(job["sets"])
        say(f"job {job['id']} of Set {sets} is {job['state']}: {job['note'] or 'no note'}")
    for problem in shown["problems"]:
        say(f"problem: {problem}")
    if shown["well"]:
        say("all is well")


def print_sets(shown: list[dict[str, Any]]) -> None:
    """Report.shown["sets"]."""
    print_table(_SETS, (_set(one) for one in shown))


def _headline(shown: dict[str, Any]) -> str:
    cluster = shown["cluster"]
    name = "no cluster"
    if cluster:
        layout = f"{cluster['sections']} sections of {cluster['section_size']} uids"
        name = f"cluster {cluster['id']}, {layout}"
    leaders = [f"{name} {who}" for name, who in shown["leaders"].items()]
    return (
        f"{name}; map revision {shown['map_revision']}, routes version "
        f"{_cell(shown['route_version'])}; leader: {', '.join(leaders) or 'none'}"
    )


def _set(one: dict[str, Any]) -> tuple[str, ...]:
    reported = one["reported"]
    quorum = f"{one['n']}/{one['r']}/{one['w']}"
    counts = [one[name] for name in ("membership", "assigned", "leaving", "unassigned")]
    own = [reported[name] for name in ("serving", "acquiring", "leaving")]
    sections = ",".join(f"{span['first']}..{span['last']}" for span in one["ranges"])
    return _row(one["name"], sections or "none", quorum, *counts, *own)


def _replica(one: dict[str, Any]) -> tuple[str, ...]:
    store, answers_as = one["store_id"], one["answers_as"]
    if answers_as not in (None, store):
        store = f"{store} (answers: {answers_as})"
    leases = [f"{lease['incarnation']} {lease['left_s']:.2f} s" for lease in one["leases"] or ()]
    grace = None if one["boot_grace_s"] is None else f"{one['boot_grace_s']:.2f} s"
    in_quorum = None if one["out_of_quorum"] is None else not one["out_of_quorum"]
    return _row(
        *(one["set"], one["name"], one["address"], store, one["reachable"], in_quorum),
        *(one["sections"], one["fence_version"], grace, ", ".join(leases), one["error"]),
    )


def _node(one: dict[str, Any]) -> tuple[str, ...]:
    return _row(
        *(one["set"], one["incarnation"], one["address"], one["registered"], one["alive"]),
        *(one["draining"], one["leased"], one["per_second"], one["sections"]),
        *(one["serving"], one["acquiring"], one["leaving"], one["error"]),
    )


def _row(*values: object) -> tuple[str, ...]:
    return tuple(_cell(value) for value in values)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)
