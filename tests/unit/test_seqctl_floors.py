"""Lines of floors, and what a summary keeps of them."""

import random

import pytest

from seqctl.floors import SHOWN, Floor, Summary, parse_floor
from seqsvr.sections import SEQ_LIMIT


@pytest.mark.parametrize(
    "line",
    [b"7,9", b"7,9\n", b" 7 , 9\r\n", b'"7","9"\n', b"\xef\xbb\xbf7,9\n", b"0007,09\n"],
)
def test_a_line_is_a_uid_and_its_floor(line: bytes) -> None:
    assert parse_floor(3, line, 100) == Floor(3, 7, 9)


@pytest.mark.parametrize("line", [b"\n", b"  \r\n", b""])
def test_a_blank_line_is_passed_over(line: bytes) -> None:
    assert parse_floor(3, line, 100) is None


@pytest.mark.parametrize("line", [b"uid,floor\n", b"\xef\xbb\xbfUID, Floor\r\n", b'"uid","floor"'])
def test_a_heading_is_passed_over_where_it_is_the_first_line(line: bytes) -> None:
    assert parse_floor(1, line, 100) is None
    with pytest.raises(ValueError, match="uid must be"):
        parse_floor(2, line, 100)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"7\n", "must be uid,floor"),
        (b"7;9\n", "must be uid,floor"),
        (b"7,9,11\n", "must be uid,floor"),
        (b",9\n", "uid must be"),
        (b"-7,9\n", "uid must be"),
        (b"x,9\n", "uid must be"),
        (b"100,9\n", "uid must be an integer in 0..99"),
        (b"7,\n", "floor must be"),
        (b"7,1.5\n", "floor must be"),
        (b"7,1e9\n", "floor must be"),
        (f"7,{SEQ_LIMIT + 1}".encode(), f"floor must be an integer in 0..{SEQ_LIMIT}"),
        (b"7," + b"9" * 10_000, "floor must be"),
        ("7,\u0663".encode(), "floor must be"),
    ],
)
def test_anything_else_is_wrong_and_it_says_what(line: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_floor(3, line, 100)


def test_a_summary_shows_the_largest_and_counts_everything() -> None:
    rng = random.Random(5)
    summary = Summary(section_size=10)
    jumps: list[int] = []
    ceilings: dict[int, int] = {}
    for line in range(2_000):
        uid, by = rng.randrange(1_000), rng.randrange(1, 10**6)
        summary.rose(Floor(line, uid, by + uid), by)
        jumps.append(by)
        ceilings[uid // 10] = max(ceilings.get(uid // 10, 0), by + uid)
    summary.refuse()
    summary.stood()
    assert [jump.by for jump in summary.jumps] == sorted(jumps, reverse=True)[:SHOWN]
    highest = sorted(ceilings.items(), key=lambda item: -item[1])[:SHOWN]
    assert summary.ceilings == highest
    shown = summary.as_json(dry_run=True)
    counts = {"lines": 2_002, "advanced": 2_000, "already": 1, "refused": 1, "numbers": sum(jumps)}
    assert {name: shown[name] for name in counts} == counts
    assert shown["dry_run"] is True
