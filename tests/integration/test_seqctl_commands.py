"""The commands as processes, against a scripted Alloc server on a real socket."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from fake_alloc import SECTION_SIZE, UID_LIMIT, FakeAlloc, Reply
from seqsvr.v1 import alloc_pb2, alloc_pb2_grpc

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
async def node() -> AsyncIterator[FakeAlloc]:
    async with FakeAlloc() as fake:
        yield fake


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "trace.txt"
    path.write_text("".join(f"{i % 7 + 1} {i % 11 + 8} {i}\n" for i in range(300)))
    return path


async def start(*argv: str, optimized: bool = False) -> asyncio.subprocess.Process:
    flags = ["-O"] if optimized else []
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *flags,
        "-m",
        "seqctl",
        *argv,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def seqctl(*argv: str, optimized: bool = False) -> tuple[int, str, str]:
    """Run to the end: exit code, standard output, standard error."""
    process = await start(*argv, optimized=optimized)
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def seqctl_json(*argv: str) -> Any:
    code, out, err = await seqctl(*argv, "-o", "json")
    assert (code, err) == (0, "")
    assert out.count("\n") == 1
    return json.loads(out)


@pytest.mark.parametrize("optimized", [False, True])
async def test_next_prints_the_number_or_first_and_last(node: FakeAlloc, optimized: bool) -> None:
    one = await seqctl("next", "42", "--addr", node.address, optimized=optimized)
    assert one == (0, "1\n", "")
    range_of = await seqctl("next", "42", "--count", "10", "--addr", node.address)
    assert range_of == (0, "2..11\n", "")


async def test_json_has_the_fields_that_scripts_rely_on(node: FakeAlloc) -> None:
    addr = ("--addr", node.address)
    handed = await seqctl_json("next", "42", "--count", "3", *addr)
    assert handed == {"uid": 42, "seq": 1, "count": 3}
    assert await seqctl_json("current", "42", "7", *addr) == [
        {"uid": 42, "seq": 3, "exact": True},
        {"uid": 7, "seq": 0, "exact": True},
    ]
    table = await seqctl_json("route", *addr)
    assert (table["section_size"], table["uid_limit"]) == (SECTION_SIZE, UID_LIMIT)
    assert table["routes"] == [
        {"first_section": 0, "last_section": 99, "address": node.address, "epoch": 1}
    ]


async def test_tables_name_what_they_show(node: FakeAlloc) -> None:
    code, out, _ = await seqctl("route", "--addr", node.address)
    assert code == 0
    assert f"0..{UID_LIMIT // SECTION_SIZE - 1}" in out
    assert node.address in out
    code, out, _ = await seqctl("current", "5", "--addr", node.address)
    assert code == 0
    assert [line.split() for line in out.splitlines()][2] == ["5", "0", "yes"]


async def test_a_uid_above_the_limit_of_the_cluster_is_wrong_usage(node: FakeAlloc) -> None:
    code, out, err = await seqctl("next", str(UID_LIMIT), "--addr", node.address)
    assert (code, out) == (2, "")
    assert str(UID_LIMIT - 1) in err
    assert err.count("\n") == 1


async def test_a_cluster_that_is_not_there_is_code_3_and_one_line(trace: Path) -> None:
    gone = FakeAlloc()
    await gone.start()
    await gone.stop()
    for argv in (["next", "1"], ["replay", str(trace)]):
        code, out, err = await seqctl(*argv, "--addr", gone.address, "--timeout", "0.5")
        assert (code, out) == (3, "")
        assert err.startswith(f"seqctl {argv[0]}: ")
        assert err.count("\n") == 1


async def test_a_replay_is_verified_recorded_and_its_history_passes(
    node: FakeAlloc, trace: Path, tmp_path: Path
) -> None:
    history = str(tmp_path / "history")
    argv = ["replay", str(trace), "--spread", "101", "--addr", node.address]
    summary = await seqctl_json(*argv, "--history", history)
    assert (summary["messages"], summary["numbers"]) == (300, 600)
    assert (summary["jumps"], summary["violations"], summary["failed"]) == (0, 0, 0)
    assert (summary["uids"], summary["sections"]) == (18, 18)
    assert summary["per_second"] > 0
    assert 0 < summary["p50_ms"] <= summary["p99_ms"] <= summary["p999_ms"]
    checked = await seqctl_json("check", history, "--complete")
    assert (checked["numbers"], checked["uids"], checked["gaps"]) == (600, 18, 0)
    assert checked["violations"] == []


async def test_a_second_replay_counts_the_numbers_that_were_skipped_between(
    node: FakeAlloc, trace: Path
) -> None:
    argv = ["replay", str(trace), "--addr", node.address]
    assert (await seqctl_json(*argv))["jumps"] == 0
    assert (await seqctl_json(*argv))["jumps"] == 0
    # The baselines are read first, so what is skipped must be skipped after them.
    node.script = skipping(node)
    assert (await seqctl_json(*argv))["jumps"] == 18


def skipping(node: FakeAlloc) -> Any:
    """Skips 100 numbers of every uid before the first hand-out."""
    skipped = False

    async def script(request: alloc_pb2.SessionRequest, reply: Reply) -> None:
        nonlocal skipped
        if request.HasField("next") and not skipped:
            skipped = True
            for uid in node.numbers:
                node.numbers[uid] += 100
        await node.answer(request, reply)

    return script


async def test_a_service_that_goes_back_is_a_violation(
    node: FakeAlloc, trace: Path, tmp_path: Path
) -> None:
    served = 0

    async def forgetful(request: alloc_pb2.SessionRequest, reply: Reply) -> None:
        nonlocal served
        served += 1
        if served % 10 == 0:
            node.numbers.clear()
        await node.answer(request, reply)

    node.script = forgetful
    history = str(tmp_path / "history")
    argv = ["replay", str(trace), "--clients", "2", "--addr", node.address, "--history", history]
    code, out, err = await seqctl(*argv, "-o", "json")
    assert code == 1
    assert json.loads(out)["violations"] > 0
    assert "SEQ-1 broken for uid" in err
    assert f"{trace}:" in err
    code, out, _ = await seqctl("check", history)
    assert code == 1
    assert "SEQ-1 broken for uid" in out
    assert f"  {history}:" in out


async def test_a_replay_gives_up_when_the_cluster_refuses_for_good(
    node: FakeAlloc, trace: Path
) -> None:
    node.script = refusing_hand_outs(node)
    argv = ["replay", str(trace), "--clients", "4", "--timeout", "0.3", "--addr", node.address]
    code, out, err = await seqctl(*argv, "-o", "json")
    assert code == 3
    summary = json.loads(out)
    assert summary["messages"] == 0
    assert 4 <= summary["failed"] < 12
    assert "gave up" in err
    assert err.count("\n") == 1


def refusing_hand_outs(node: FakeAlloc) -> Any:
    refuse = node.refusing("STORE_UNAVAILABLE")

    async def script(request: alloc_pb2.SessionRequest, reply: Reply) -> None:
        await (refuse if request.HasField("next") else node.answer)(request, reply)

    return script


async def test_a_trace_beyond_the_cluster_s_uids_names_its_line(
    node: FakeAlloc, trace: Path
) -> None:
    code, out, err = await seqctl("replay", str(trace), "--spread", "1000", "--addr", node.address)
    assert (code, out) == (2, "")
    assert f"{trace}:11: uid 18000" in err
    assert not node.requests


async def test_ctrl_c_ends_a_replay_quietly(node: FakeAlloc, trace: Path) -> None:
    stuck = asyncio.Event()

    async def silent(request: alloc_pb2.SessionRequest, reply: Reply) -> None:
        if request.HasField("next"):
            stuck.set()
        else:
            await node.answer(request, reply)

    node.script = silent
    process = await start("replay", str(trace), "--timeout", "600", "--addr", node.address)
    async with asyncio.timeout(60):
        await stuck.wait()
        process.send_signal(signal.SIGINT)
        out, err = await process.communicate()
    assert (process.returncode, out, err) == (130, b"", b"")


async def test_a_reader_that_leaves_early_is_no_traceback(tmp_path: Path) -> None:
    history = tmp_path / "history"
    line = '{"op":"next","uid":%d,"count":1,"call_ns":%d,"return_ns":%d,"seq":1}\n'
    history.write_text("".join(line % (uid, t, t) for uid in range(2000) for t in (1, 2)))
    process = await start("check", str(history), "-o", "json")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout._transport.close()  # type: ignore[attr-defined]
    async with asyncio.timeout(60):
        err = await process.stderr.read()
        await process.wait()
    assert (process.returncode, err) == (141, b"")


async def test_status_asks_every_node_that_the_table_names() -> None:
    async with healthy(ready=True) as ready, healthy(ready=False) as busy:
        ready.table.addresses.append(busy.address)
        code, out, err = await seqctl("status", "--addr", ready.address, "-o", "json")
        assert (code, err) == (3, "")
        first, second = json.loads(out)
        assert (first["address"], first["ready"], first["route_version"]) == (
            ready.address,
            True,
            1,
        )
        assert (second["address"], second["reachable"], second["alive"], second["ready"]) == (
            busy.address,
            True,
            True,
            False,
        )
        await busy.stop()
        code, out, _ = await seqctl("status", "--addr", ready.address)
        assert code == 3
        assert "UNAVAILABLE" in out


async def test_status_of_a_cluster_that_is_ready_is_0() -> None:
    async with healthy(ready=True) as node:
        (status,) = await seqctl_json("status", "--addr", node.address)
    assert status["latency_ms"] > 0
    assert (status["reachable"], status["alive"], status["error"]) == (True, True, None)


class healthy(FakeAlloc):
    """A fake node that has the health service too."""

    def __init__(self, *, ready: bool) -> None:
        super().__init__()
        self.health = health.aio.HealthServicer()
        self.ready = ready

    async def start(self) -> None:
        self._server = grpc.aio.server()
        alloc_pb2_grpc.add_AllocServicer_to_server(self, self._server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        await self.health.set("", SERVING)
        await self.health.set("seqsvr.ready", SERVING if self.ready else NOT_SERVING)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()
