"""Frames of `seqctl top`: whatever there is fits whatever terminal, and says what is left out."""

from io import StringIO
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from seqctl.top_frame import Seen, frame

COUNTS = st.integers(0, 2**64 - 1)
SOME = st.none() | COUNTS
# Wide characters too: notes and problems may quote anything.
TEXTS = st.text(max_size=200) | st.text("ab \n\t[]/\u8a9e\u0301", max_size=60)
NAMES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True)
HOSTS = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,70}[a-z0-9])?", fullmatch=True)
ADDRESSES = st.builds("{}:{}".format, HOSTS, st.integers(1, 65_535)) | TEXTS
STATES = st.sampled_from(["serving", "draining", "drained", "gone", "unregistered", "unleased"])

NODES = st.fixed_dictionaries(
    {"set": NAMES, "address": ADDRESSES, "state": STATES, "sections": COUNTS},
    optional={"alive": st.booleans(), "serving": SOME, "per_second": SOME},
)
REPLICAS = st.fixed_dictionaries(
    {
        "set": NAMES,
        "name": NAMES,
        "address": ADDRESSES,
        "reachable": st.booleans(),
        "out_of_quorum": st.sampled_from(["", "corrupt"]),
        "boot_grace_s": st.sampled_from([None, 0.0, 1.5]),
        "sections": SOME,
        "leases": st.none() | st.lists(st.just({}), max_size=3),
    }
)
HOT = st.fixed_dictionaries(
    {
        "section": COUNTS,
        "address": ADDRESSES,
        "per_second": COUNTS,
        "share": st.floats(0, 1),
        "pinned_to": st.none() | ADDRESSES,
    }
)
JOBS = st.fixed_dictionaries(
    {
        "id": NAMES,
        "state": st.sampled_from(["planned", "running", "paused", "done", "aborted"]),
        "note": TEXTS,
    },
    optional={"sections": COUNTS, "moved": COUNTS},
)


def many(rows: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """None, a few, or one again and again: what counts is how many lines there are."""
    few = st.lists(rows, max_size=3)
    return few | st.builds(lambda row, count: [row] * count, rows, st.integers(4, 60))


@st.composite
def looks(draw: st.DrawFn) -> Seen:
    problems = draw(many(TEXTS))
    cluster = st.fixed_dictionaries({"id": NAMES, "sections": COUNTS})
    report = {
        "well": not problems,
        "problems": problems,
        "cluster": draw(st.none() | cluster),
        "route_version": draw(COUNTS),
        "leaders": draw(st.just({}) | st.fixed_dictionaries({"arbiter": ADDRESSES})),
        "replicas": draw(many(REPLICAS)),
    }
    return Seen(
        report,
        draw(many(NODES)),
        draw(many(HOT)),
        draw(many(JOBS)),
        draw(st.sampled_from(["", "12:00:00"])),
        draw(st.just("") | TEXTS),
        draw(st.lists(COUNTS, max_size=20)),
    )


def drawn(what: Seen, width: int, height: int | None) -> list[str]:
    console = Console(file=StringIO(), width=width, color_system=None, highlight=False)
    # What is too wide would be cut off, unseen: but for the narrowest, nothing may have to be.
    console.print(frame(what, width, height), crop=width < 40)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue().removesuffix("\n").split("\n")


WIDTHS = st.one_of(st.integers(1, 250), st.sampled_from([80, 109, 110, 120]))
HEIGHTS = st.one_of(st.integers(1, 80), st.sampled_from([12, 24, 40]))


@given(looks(), WIDTHS, HEIGHTS)
def test_any_state_of_a_cluster_fits_any_terminal(what: Seen, width: int, height: int) -> None:
    lines = drawn(what, width, height)
    assert len(lines) <= height
    assert max(map(cell_len, lines)) <= width


def numbered(nodes: int, replicas: int, hot: int, jobs: int, problems: int) -> Seen:
    """So many of each, told apart by their names."""
    replica = {"set": "set-0", "reachable": True, "out_of_quorum": "", "boot_grace_s": 0.0}
    report = {
        "well": not problems,
        "problems": [f"problem-{index} is there" for index in range(problems)],
        "cluster": {"id": "chat", "sections": 42_950},
        "route_version": 57,
        "leaders": {"arbiter": "10.0.0.7:7422"},
        "replicas": [
            {**replica, "name": f"store-{i}", "address": "s:1", "sections": 1, "leases": []}
            for i in range(replicas)
        ],
    }
    return Seen(
        report,
        [
            {"set": "set-0", "address": f"node-{i}:1", "state": "drained", "sections": 0}
            for i in range(nodes)
        ],
        [
            {"section": i, "address": "hot:1", "per_second": 1, "share": 0.5, "pinned_to": None}
            for i in range(hot)
        ],
        [{"id": f"job-{i}", "state": "running", "note": ""} for i in range(jobs)],
    )


AMOUNTS = st.tuples(*[st.integers(0, 3) | st.integers(0, 50)] * 5)


@settings(max_examples=40)
@given(AMOUNTS, st.integers(80, 200), st.integers(3, 80))
def test_rows_that_are_left_out_are_counted_and_no_line_is_given_away(
    amounts: tuple[int, ...], width: int, height: int
) -> None:
    nodes, replicas, hot, jobs, problems = amounts
    lines = drawn(numbered(*amounts), width, height)
    there = {"node-": nodes, "store-": replicas, "job-": jobs, "problem-": problems}
    shown = {name: sum(name in line for line in lines) for name in there}
    whole = drawn(numbered(*amounts), width, None)
    for name, total in there.items():
        if name != "problem-":
            missed = f"and {total - shown[name]} more"
            assert shown[name] in (0, total) or any(missed in line for line in lines)
        elif shown[name] < total and any(line.startswith("!") for line in lines):
            assert any(f"! and {total - shown[name]} more problems" in line for line in lines)
        assert sum(name in line for line in whole) == total, "without a height all is shown"
    if len(whole) <= height and hot <= 10:
        assert shown == there
    elif shown != there and all(shown[name] for name in there if there[name]):
        assert len(lines) >= height - 2
