"""What is measured: each shape of load, and the contestants that run in it. Pure."""

from dataclasses import dataclass

OURS = ("limit", "embedded", "cluster")
PEERS = ("redis-always", "redis-everysec", "postgres", "etcd")
TLS = ("embedded-tls",)
UVLOOP = ("limit-uvloop", "embedded-uvloop", "redis-always-uvloop")
CALLERS = (1, 8, 32, 100, 1_000)
SHARE = 0.6
"""Of the rate that a contestant reached in a closed loop: the rate of the paced case."""


@dataclass(frozen=True, slots=True)
class Case:
    """callers: at a time, or batches in flight; batch: uids per call; shape: as load.py knows it.

    driver: instead of the contestant's own.
    """

    name: str
    title: str
    shape: str
    callers: int
    contestants: tuple[str, ...]
    batch: int = 1
    driver: str = ""


def _coalesced(callers: int) -> Case:
    more = (*TLS, *UVLOOP) if callers in (32, 1_000) else ()
    title = f"one number per call, {callers:,} caller{'s' if callers > 1 else ''}"
    return Case(f"calls-{callers}", title, "closed", callers, (*OURS, *PEERS, *more))


def _batches(size: int) -> list[Case]:
    ours = (*OURS, "limit-uvloop", "embedded-uvloop") if size == 1_024 else OURS
    return [
        Case(
            f"streams-{size}",
            f"batches of {size:,} uids, raw stream, 4 in flight",
            "streams",
            4,
            ours,
            size,
        ),
        Case(
            f"many-{size}",
            f"batches of {size:,} uids, next_many, 4 in flight",
            "closed",
            4,
            ("limit", "embedded"),
            size,
            "many",
        ),
    ]


_ALL = (
    *_batches(256),
    *_batches(1_024),
    *map(_coalesced, CALLERS),
    Case(
        "paced-32",
        f"one number per call, 32 callers, at {SHARE:.0%} of the rate reached (open loop)",
        "paced",
        32,
        (*OURS, "redis-always"),
    ),
    Case("unary-32", "plain unary GetSeq, 32 callers", "closed", 32, OURS, driver="unary"),
    Case(
        "threads-8",
        "blocking client, 8 threads",
        "threads",
        8,
        ("embedded", "cluster", "redis-always", "redis-everysec"),
    ),
    Case(
        "redis-benchmark-32",
        "redis-benchmark (a client in C), 32 connections",
        "redis-tool",
        32,
        ("redis-always", "redis-everysec"),
    ),
)
CASES = {case.name: case for case in _ALL}
PACED_AFTER = "calls-32"
