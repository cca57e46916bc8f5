"""Real storesvr processes behind gRPC: stopped, continued, killed, restarted on the same port.

The aim is that numbers flow again within 1 s of a replica's return; the times are printed, and
what is asserted leaves room for a busy machine.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from allocsvr.section import State
from cluster_in_a_box import Box, Caller, Member, NotServed, eventually, open_box
from seqsvr.sections import SEQ_LIMIT
from svrprocess.store_client import GrpcReplica

BACK_S = 8.0
TTL_S = 2.0


class Store:
    """One storesvr process after another over one data directory, on one port."""

    def __init__(self, folder: Path, index: int) -> None:
        self._folder = folder
        self._index = index
        self._port = 0
        self._process: subprocess.Popen[str] | None = None

    async def start(self) -> str:
        """Start it, and return its address once it is ready."""
        command = [
            sys.executable,
            "-m",
            "storesvr",
            "--create",
            "--replica",
            f"store-{self._index}",
        ]
        command += ["--data", str(self._folder / f"store-{self._index}"), "--cluster", "c0ffee"]
        command += ["--section-size", "100", "--uid-limit", "400", "--lease-ttl-s", str(TTL_S)]
        command += ["--listen", f"127.0.0.1:{self._port}"]
        with (self._folder / f"store-{self._index}.err").open("ab") as err:
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=err, text=True, start_new_session=True
            )
        assert self._process.stdout is not None
        line = await asyncio.to_thread(self._process.stdout.readline)
        assert line.startswith("ready "), line
        address = line.split()[1]
        self._port = int(address.rpartition(":")[2])
        return address

    def signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                self.signal(signal.SIGCONT)
            self._process.kill()
            self._process.communicate()
            self._process = None


@asynccontextmanager
async def three_processes(folder: Path) -> AsyncIterator[tuple[Box, list[Store]]]:
    """A box whose replicas are processes."""
    stores = [Store(folder, index) for index in range(3)]
    try:
        async with open_box(folder, 3, 2, 2) as box:
            for memory in box.stores:
                await memory.aclose()
            wires = [GrpcReplica(await store.start()) for store in stores]
            ids = [await store_id(wire) for wire in wires]
            replicas = tuple(
                replace(named, store_id=known)
                for named, known in zip(box.spec.replicas, ids, strict=True)
            )
            box.spec, box.replicas = replace(box.spec, replicas=replicas), list(replicas)
            await box.coordinator.transact({}, box.blank_map())
            box.stores = wires  # type: ignore[assignment]
            box.durable = lambda section: SEQ_LIMIT  # type: ignore[method-assign]
            yield box, stores
    finally:
        for store in stores:
            store.kill()


async def store_id(wire: GrpcReplica) -> int:
    return int((await wire.info()).store_id)


def granting(member: Member) -> list[int]:
    return member.node.membership.current.replicas.granting


async def seconds_until(holds: Callable[[], object]) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await eventually(holds)
    return loop.time() - began


async def seconds_until_served(caller: Caller, member: Member, uid: int) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    while True:
        try:
            await caller.next(member, uid, timeout_s=BACK_S)
        except NotServed:
            assert loop.time() - began < 4 * BACK_S, "never served again"
            await asyncio.sleep(0.005)
        else:
            return loop.time() - began


async def call_for(caller: Caller, member: Member, seconds: float) -> float:
    """Calls that all succeed; the longest that one of them took."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    longest = 0.0
    while (began := loop.time()) < end:
        await caller.next_many(member, [5, 105, 305], [30, 1, 70])
        longest = max(longest, loop.time() - began)
        await asyncio.sleep(0.01)
    return longest


async def until_refused(caller: Caller, member: Member) -> str:
    try:
        while True:
            await caller.next(member, 5)
            await asyncio.sleep(0.01)
    except NotServed as refused:
        return refused.reason


async def test_one_of_three_stopped_or_killed_is_not_noticed_and_is_back_soon_after_its_return(
    tmp_path: Path,
) -> None:
    async with three_processes(tmp_path) as (box, stores), box.node(lease_ttl_s=TTL_S) as node:
        caller = Caller(box)
        await box.own(node)
        await eventually(lambda: granting(node) == [0, 1, 2])
        stores[1].signal(signal.SIGSTOP)
        longest_s = await call_for(caller, node, 3.0)
        assert node.ejected() == [1]
        stores[1].signal(signal.SIGCONT)
        continued_s = await seconds_until(lambda: granting(node) == [0, 1, 2])
        stores[1].kill()
        longest_s = max(longest_s, await call_for(caller, node, 2.0))
        assert node.ejected() == [1]
        await stores[1].start()
        restarted_s = await seconds_until(lambda: granting(node) == [0, 1, 2])
        await call_for(caller, node, 0.5)
        print(
            f"renewed again: {continued_s:.3f} s after SIGCONT, {restarted_s:.3f} s after the "
            f"restart; longest call {longest_s:.3f} s"
        )
        assert continued_s < BACK_S
        assert restarted_s < BACK_S


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_two_of_three_away_serve_from_memory_and_numbers_flow_soon_after_the_return_of_one(
    tmp_path: Path, how: str
) -> None:
    async with (
        three_processes(tmp_path) as (box, stores),
        box.node(lease_ttl_s=TTL_S, step=10**6) as node,
    ):
        caller = Caller(box)
        await box.own(node, 0, 1)
        held = node.node.ledger.sections[0]
        for index in (0, 2):
            if how == "stopped":
                stores[index].signal(signal.SIGSTOP)
            else:
                stores[index].kill()
        assert await until_refused(caller, node) == "STORE_UNAVAILABLE"
        await asyncio.sleep(TTL_S)
        if how == "stopped":
            stores[2].signal(signal.SIGCONT)
        else:
            await stores[2].start()
        from_memory_s = await seconds_until_served(caller, node, 5)
        window_s = await seconds_until_served(caller, node, 105)
        print(f"{how}: numbers flow {from_memory_s:.3f} s after the return ({window_s:.3f})")
        assert from_memory_s < BACK_S
        assert held.state is State.SERVING
        assert node.node.ledger.sections[0] is held
