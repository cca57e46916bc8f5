"""`seqctl advance` and `seqctl import`, against a scripted node and against a real one."""

import asyncio
import gzip
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fake_alloc import SECTION_SIZE, UID_LIMIT, FakeAlloc
from processes import environment
from seqctl import importing
from seqsvr.errors import reason_value
from seqsvr.sections import MAX_JUMP


@pytest.fixture
async def node() -> AsyncIterator[FakeAlloc]:
    async with FakeAlloc() as fake:
        yield fake


async def seqctl(*argv: object, given: bytes | None = None) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    command = [sys.executable, "-m", "seqctl", *map(str, argv)]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=subprocess.PIPE if given is not None else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**environment(), "SEQSVR_ACTOR": "night shift"},
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate(given)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def imported(node: FakeAlloc, *argv: object, given: bytes | None = None) -> Any:
    """The summary, and the lines of standard error without the audit line."""
    argv = ("import", *argv, "--addr", node.address, "-o", "json")
    code, out, err = await seqctl(*argv, given=given)
    summary = json.loads(out)
    assert code == (1 if summary["refused"] else 0), err
    return summary, [line for line in err.splitlines() if not line.startswith("audit ")]


def counts(summary: Any) -> tuple[int, ...]:
    return tuple(summary[name] for name in ("lines", "advanced", "already", "refused"))


async def test_advance_says_what_it_did_and_twice_is_once(node: FakeAlloc) -> None:
    node.numbers[7] = 5
    argv = ("advance", "7", "--at-least", "100", "--addr", node.address)
    code, out, err = await seqctl(*argv, "--dry-run")
    assert (code, out, err) == (0, "uid 7 would rise from 5 to 100\n", "")
    assert not node.advances
    code, out, err = await seqctl(*argv)
    assert (code, out) == (0, "uid 7 rose from 5 to 100\n")
    assert 'who="night shift"' in err
    assert f'what="advance 7 --at-least 100 --max-jump {MAX_JUMP}" outcome="from 5 to 100"' in err
    code, out, err = await seqctl(*argv, "-o", "json")
    assert (code, err) == (0, "")
    answer = {"uid": 7, "from": 100, "seq": 100, "at_least": 100, "dry_run": False}
    assert json.loads(out) == answer
    code, _, err = await seqctl("advance", "7", "--at-least", "111", "--max-jump", "10", *argv[-2:])
    assert code == 2
    assert "111 is 11 above 100, where uid 7 stands: more than --max-jump 10" in err
    assert len(node.advances) == 1


async def test_a_file_is_imported_and_a_second_run_changes_nothing(
    node: FakeAlloc, tmp_path: Path
) -> None:
    floors = {uid: 3 * uid + 1 for uid in range(2_500)}
    node.numbers[4] = 1_000
    path = tmp_path / "floors.csv.gz"
    text = "uid,floor\n" + "".join(f"{uid},{floor}\n" for uid, floor in floors.items())
    path.write_bytes(gzip.compress(text.encode()))
    dry, said = await imported(node, path, "--dry-run")
    assert counts(dry) == (2_500, 2_499, 1, 0)
    assert (said, node.advances) == ([], [])
    assert dry["jumps"][0] == {"by": 7_498, "line": 2_501, "uid": 2_499, "floor": 7_498}
    assert dry["ceilings"][0] == {"section": 2_499 // SECTION_SIZE, "ceiling": 7_498}
    real, said = await imported(node, path)
    assert {**real, "dry_run": True} == dry
    assert said == []
    assert {uid: node.numbers[uid] for uid in floors} == {**floors, 4: 1_000}
    assert max(len(request.uids) for request in node.advances) <= importing.BATCH
    asked = len(node.advances)
    again, _ = await imported(node, path)
    assert counts(again) == (2_500, 0, 2_500, 0)
    assert len(node.advances) == asked


async def test_refused_lines_are_named_and_the_others_are_done(node: FakeAlloc) -> None:
    node.numbers[3] = 50
    given = f"7,5\noops\n\n{UID_LIMIT},1\n8,71\n3,120\n9,70\n".encode()
    summary, said = await imported(node, "-", "--max-jump", 70, given=given)
    assert counts(summary) == (6, 3, 0, 3)
    assert said == [
        "-:2: must be uid,floor: 'oops'",
        f"-:4: uid must be an integer in 0..{UID_LIMIT - 1}: '{UID_LIMIT},1'",
        "-:5: 71 above 0, where the uid stands: more than --max-jump: '8,71'",
    ]
    assert node.numbers == {7: 5, 3: 120, 9: 70}


async def test_a_uid_that_comes_again_counts_from_where_it_was_raised_to(node: FakeAlloc) -> None:
    given = b"7,50\n7,90\n7,60\n7,150\n"
    summary, said = await imported(node, "-", "--max-jump", 50, given=given)
    assert counts(summary) == (4, 2, 1, 1)
    assert len(said) == 1 and said[0].startswith("-:4: 60 above 90")
    assert node.numbers == {7: 90}


async def test_what_the_cluster_refuses_is_refused_and_the_rest_of_its_batch_is_done(
    node: FakeAlloc,
) -> None:
    async def refuse(request: Any, _: Any) -> Any:
        answer = node.advanced(request)
        for index, uid in enumerate(request.uids):
            if uid in (8, 9):
                answer.seqs[index] = 0
                reason = reason_value("JUMP_TOO_LARGE")
                answer.errors.add(index=index, reason=reason, text="above its seq_limit")
        return answer

    node.advancing = refuse
    summary, said = await imported(node, "-", given=b"7,5\n8,5\n9,5\n10,5\n")
    assert counts(summary) == (4, 2, 0, 2)
    assert said == ["-:2: above its seq_limit: '8,5'", "-:3: above its seq_limit: '9,5'"]


async def test_a_cluster_that_does_not_answer_stops_it_where_it_can_go_on(node: FakeAlloc) -> None:
    node.script = node.refusing("STORE_UNAVAILABLE")
    argv = ("import", "-", "--addr", node.address, "--timeout", "0.5")
    code, out, err = await seqctl(*argv, given=b"7,5\n")
    assert (code, out) == (3, "")
    assert "seqctl import: stopped at line 1, with 0 advanced" in err
    assert "Run it again" in err
    assert 'outcome="failed: stopped at line 1' in err


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\x1f\x8b\x07" + bytes(40), "Unknown compression method"),
        (gzip.compress(b"7,5\n" * 1000)[:-9], "cut off"),
        (b"7,5\n", "Not a gzipped file"),
    ],
)
async def test_a_file_that_cannot_be_read_is_one_clear_line(
    node: FakeAlloc, tmp_path: Path, content: bytes, why: str
) -> None:
    path = tmp_path / "floors.csv.gz"
    path.write_bytes(content)
    code, _, err = await seqctl("import", path, "--dry-run", "--addr", node.address)
    assert code == 2
    assert err.startswith(f"seqctl import: {path}: ") and why in err
    code, _, err = await seqctl("import", tmp_path / "none", "--addr", node.address)
    assert (code, err) == (2, f"seqctl import: {tmp_path / 'none'}: No such file or directory\n")


async def test_the_rate_is_kept(node: FakeAlloc, tmp_path: Path) -> None:
    path = tmp_path / "floors.csv"
    path.write_text("".join(f"{uid},9\n" for uid in range(200)))
    loop = asyncio.get_running_loop()
    started_s = loop.time()
    summary, _ = await imported(node, path, "--rate", 100)
    assert counts(summary) == (200, 200, 0, 0)
    assert loop.time() - started_s >= 1.9
    assert max(len(request.uids) for request in node.advances) <= 100
