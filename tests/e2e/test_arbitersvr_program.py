"""The arbitersvr program against a real etcd: two processes, nodes that are only registrations."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from arbiter_world import PATIENCE_S, World
from clustermap.etcd import EtcdCoordinator, EtcdOptions
from etcd_servers import EtcdServers
from processes.commands import ROOT, environment
from processes.metrics import scrape
from processes.service import free_port
from svrprocess.front import Front
from svrprocess.health import node_service

SERVING = health_pb2.HealthCheckResponse.SERVING


class Program:
    """`arbitersvr` as a child process."""

    def __init__(self, folder: Path, name: str, endpoints: str) -> None:
        self.err = folder / f"{name}.err"
        self.metrics = f"127.0.0.1:{free_port()}"
        command = [sys.executable, "-m", "arbitersvr", "--etcd", endpoints]
        command += ["--listen", "127.0.0.1:0", "--metrics", self.metrics]
        with self.err.open("wb") as err:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=err,
                env=environment(),
                cwd=ROOT,
                start_new_session=True,
            )

    async def ready(self) -> str:
        """Its address, from its line on standard output."""
        assert self.process.stdout is not None
        line = await asyncio.to_thread(self.process.stdout.readline)
        assert line.startswith(b"ready "), self.err.read_text()
        return line.split()[1].decode()

    def leads(self) -> bool:
        return scrape(self.metrics).value("seqsvr_arbiter_leader") == 1

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[EtcdServers]:
    with EtcdServers(tmp_path / "etcd") as servers:
        yield servers


@asynccontextmanager
async def living(incarnation: int) -> AsyncIterator[str]:
    """What a prober finds of a node that lives; its address."""
    front = Front()
    address = front.bind("127.0.0.1:0")
    await front.start()
    await front.health.say(node_service(incarnation), True)
    try:
        yield address
    finally:
        await front.aclose(0)


async def check(address: str, service: str) -> int:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
    return int(answer.status)


async def test_two_programs_one_leads_replaces_the_dead_and_leaves_to_the_other(
    etcd: EtcdServers, tmp_path: Path
) -> None:
    coordinator = await EtcdCoordinator.open(EtcdOptions(etcd.endpoints))
    programs = [Program(tmp_path, f"arbiter-{i}", ",".join(etcd.endpoints)) for i in range(2)]
    try:
        async with World(coordinator) as world, living(3) as alive:
            for program in programs:
                address = await program.ready()
                assert await check(address, "seqsvr.ready") == SERVING
                assert await check(address, "") == SERVING
            await world.come(1, 2, address=f"127.0.0.1:{free_port()}")
            await world.come(3, address=alive)
            await world.until_owned_by(1, 2, 3)
            assert sorted(program.leads() for program in programs) == [False, True]

            # 3 is cut off from the map, but lives; 2 is dead.
            await world.go(3)
            begun = time.monotonic()
            await world.go(2)
            document = await world.until(lambda d: 2 not in world.counts(d), "2 is not replaced")
            print(f"replaced after {time.monotonic() - begun:.3f} s")
            assert world.counts(document)[3] == 10

            leader, standby = sorted(programs, key=lambda program: not program.leads())
            leader.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(leader.process.wait, PATIENCE_S) == 0
            await world.come(1, draining=True)
            await world.come(4)
            await world.until(lambda d: any(e.leaving for e in d.entries), "nobody took over")
            assert standby.leads()
            assert "Traceback" not in leader.err.read_text() + standby.err.read_text()
    finally:
        for program in programs:
            program.end()
        await coordinator.aclose()


async def test_a_leader_that_is_killed_is_followed_by_the_other(
    etcd: EtcdServers, tmp_path: Path
) -> None:
    coordinator = await EtcdCoordinator.open(EtcdOptions(etcd.endpoints))
    programs = [Program(tmp_path, f"arbiter-{i}", ",".join(etcd.endpoints)) for i in range(2)]
    try:
        async with World(coordinator) as world:
            for program in programs:
                await program.ready()
            await world.come(1, address=f"127.0.0.1:{free_port()}")
            await world.until_owned_by(1)
            leader = next(program for program in programs if program.leads())
            await world.come(2, address=f"127.0.0.1:{free_port()}")
            await world.go(1)
            leader.process.kill()
            await world.until_owned_by(2)
    finally:
        for program in programs:
            program.end()
        await coordinator.aclose()


def test_without_etcd_it_is_not_ready_and_leaves_when_asked_to(tmp_path: Path) -> None:
    program = Program(tmp_path, "alone", f"127.0.0.1:{free_port()}")
    try:
        deadline_s = time.monotonic() + PATIENCE_S
        while "metrics_served" not in program.err.read_text():
            assert time.monotonic() < deadline_s, program.err.read_text()
            time.sleep(0.02)
        time.sleep(0.5)
        program.process.send_signal(signal.SIGTERM)
        assert program.process.wait(PATIENCE_S) == 0
        assert program.process.stdout is not None
        assert program.process.stdout.read() == b""
        assert "Traceback" not in program.err.read_text()
    finally:
        program.end()
