"""What a client writes down for `seqctl check`."""

import asyncio
import json
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

import seqsvr
from fake_alloc import FakeAlloc

FIELDS = ["op", "uid", "count", "call_ns", "return_ns", "seq", "exact", "epoch", "error"]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def what(line: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(line[name] for name in ("op", "uid", "count", "seq", "exact", "epoch", "error"))


async def test_every_finished_call_has_a_line(tmp_path: Path) -> None:
    path = tmp_path / "history"
    before = time.monotonic_ns()
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address, history=path) as seq:
        node.epoch = 3
        await seq.next(1)
        await seq.next_range(1, 10)
        await seq.next_many([2, 1])
        await seq.current(1)
    written = lines(path)
    assert [list(line) for line in written] == [FIELDS] * 5
    assert [what(line) for line in written] == [
        ("next", 1, 1, 1, None, 3, None),
        ("next", 1, 10, 2, None, 3, None),
        ("next", 2, 1, 1, None, 3, None),
        ("next", 1, 1, 12, None, 3, None),
        ("current", 1, 1, 12, True, 3, None),
    ]
    times = [(line["call_ns"], line["return_ns"]) for line in written]
    assert times[2] == times[3], "entries of one call share its times"
    assert all(before <= call <= end <= time.monotonic_ns() for call, end in times)
    assert times[0][1] <= times[1][0] <= times[1][1] <= times[2][0]


async def test_a_call_that_failed_says_why_and_has_no_number(tmp_path: Path) -> None:
    path = tmp_path / "history"
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address, history=path) as seq:
        node.script = node.refusing("SEQUENCE_EXHAUSTED")
        with pytest.raises(seqsvr.SequenceExhausted):
            await seq.next(1)
        node.script = node.never
        with pytest.raises(seqsvr.OutcomeUnknown):
            await seq.next(2, timeout=0.2)
    async with seqsvr.AsyncClient("127.0.0.1:1", history=path) as seq:
        with pytest.raises(seqsvr.Unavailable):
            await seq.next_many([3, 4], timeout=0.2)
    assert [what(line) for line in lines(path)] == [
        ("next", 1, 1, None, None, None, "SEQUENCE_EXHAUSTED"),
        ("next", 2, 1, None, None, None, "OUTCOME_UNKNOWN"),
        ("next", 3, 1, None, None, None, "UNREACHABLE"),
        ("next", 4, 1, None, None, None, "UNREACHABLE"),
    ]


async def test_a_call_cancelled_after_it_was_sent_is_noted_and_before_it_is_not(
    tmp_path: Path,
) -> None:
    path = tmp_path / "history"
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address, history=path) as seq:
        await seq.next(1)
        node.script = node.never
        sent = asyncio.create_task(seq.next(2))
        while len(node.requests) < 2:
            await asyncio.sleep(0.001)
        queued = asyncio.create_task(seq.next(3))
        await asyncio.sleep(0)
        for call in (sent, queued):
            call.cancel()
        await asyncio.gather(sent, queued, return_exceptions=True)
    assert [what(line)[1::5] for line in lines(path)] == [(1, None), (2, "OUTCOME_UNKNOWN")]


async def test_calls_that_closing_ended_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "history"
    async with FakeAlloc() as node:
        seq = seqsvr.AsyncClient(node.address, history=path, timeout=60)
        await seq.next(1)
        node.script = node.never
        calls = [asyncio.create_task(seq.next(uid)) for uid in (2, 3)]
        while len(node.requests) < 2:
            await asyncio.sleep(0.001)
        await seq.aclose()
        await asyncio.gather(*calls, return_exceptions=True)
    assert [line["error"] for line in lines(path)] == [None, "OUTCOME_UNKNOWN", "OUTCOME_UNKNOWN"]


async def test_lines_reach_the_file_while_the_client_lives(tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_text('{"what": "was there before"}\n')
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address, history=path) as seq:
        await seq.next(1)
        async with asyncio.timeout(30):
            while len(lines(path)) < 2:
                await asyncio.sleep(0.05)
    assert len(lines(path)) == 2


async def test_a_history_that_cannot_be_written_is_told_at_the_end() -> None:
    async with FakeAlloc() as node:
        seq = seqsvr.AsyncClient(node.address, history="/dev/full")
        assert await seq.next(1) == 1
        with pytest.raises(OSError, match="space"):
            await seq.aclose()


def test_a_history_is_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        seqsvr.Client("127.0.0.1:1", history=tmp_path / "history").close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "history").stat().st_mode) == 0o600


def test_a_history_that_cannot_be_opened_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        seqsvr.AsyncClient("127.0.0.1:1", history=tmp_path / "missing" / "history")
