"""Each link between servers over TLS: to stores, between nodes, the arbiter's probes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from allocsvr.peers import Peers
from arbitersvr.detection import Outcome
from arbitersvr.probe import HealthProber
from certificates import Authority, Issued
from clustermap.errors import ReplicaFailed
from seqsvr.credentials import Credentials
from seqsvr.tls import Tls
from seqsvr.v1 import alloc_pb2 as pb
from svrprocess.certificates import Certificate
from svrprocess.front import Front
from svrprocess.security import Port, Security
from svrprocess.store_client import GrpcReplica


class Yes(grpc.GenericRpcHandler):
    """Answers every call: one for a number with 7, others with a message where nothing is set."""

    def service(self, handler_call_details: Any) -> Any:
        numbers = handler_call_details.method.endswith("/BatchGetSeq")
        answer = (
            pb.BatchGetSeqResponse(seqs=[7], epochs=[1]) if numbers else pb.BatchGetSeqResponse()
        )

        async def handle(_request: bytes, _context: Any) -> bytes:
            return answer.SerializeToString()

        return grpc.unary_unary_rpc_method_handler(handle)


@asynccontextmanager
async def serving(certificate: Certificate) -> AsyncIterator[str]:
    front = Front()
    front.server.add_generic_rpc_handlers((Yes(),))
    address = front.bind("127.0.0.1:0", Port("peer", certificate))
    await front.server.start()
    try:
        yield address
    finally:
        await front.aclose(0)


class ToStore:
    def __init__(self, address: str, credentials: Credentials) -> None:
        self._replica = GrpcReplica(address, credentials=credentials)
        self.aclose = self._replica.aclose

    async def works(self) -> bool:
        try:
            await self._replica.info()
        except ReplicaFailed as failed:
            assert failed.reason == "UNREACHABLE"
            return False
        return True


class ToNode:
    def __init__(self, address: str, credentials: Credentials) -> None:
        self._address, self._peers = address, Peers(credentials)
        self.aclose = self._peers.aclose

    async def works(self) -> bool:
        answers = await self._peers.next(self._address, [1], [1], 20)
        assert answers.failures in ([], [(0, "ACQUIRING")])
        return answers.seqs == [7]


class Probing:
    def __init__(self, address: str, credentials: Credentials) -> None:
        self._address, self._prober = address, HealthProber(20, credentials)

    async def works(self) -> bool:
        outcome = await self._prober.probe(self._address, 7)
        assert outcome in (Outcome.ALIVE, Outcome.SILENT), "a refusal is no proof of an end"
        return outcome is Outcome.ALIVE

    async def aclose(self) -> None:
        pass


KINDS: dict[str, Callable[[str, Credentials], Any]] = {
    "to stores": ToStore,
    "between nodes": ToNode,
    "probes": Probing,
}
ENDS = [
    ("good", "good"),
    ("expired", "good"),
    ("foreign", "good"),
    ("missing", "good"),
    ("good", "expired"),
    ("good", "foreign"),
    ("good", "elsewhere"),
]


class World:
    def __init__(self, folder: Path) -> None:
        self.ours, self.theirs = Authority(folder / "ours"), Authority(folder / "theirs")

    def issue(self, name: str, kind: str) -> Issued:
        authority = self.theirs if kind == "foreign" else self.ours
        hosts = {"dns": ["elsewhere"]} if kind == "elsewhere" else {"ips": ["127.0.0.1"]}
        return authority.issue(name, expired=kind == "expired", **hosts)  # type: ignore[arg-type]

    def port(self, kind: str = "good") -> Certificate:
        own = self.issue("server", kind)
        return Certificate("peer", str(own.crt), str(own.key), str(self.ours.crt))

    def caller(self, kind: str = "good") -> Credentials:
        if kind == "missing":
            return Credentials(Tls(self.ours.crt))
        own = self.issue("caller", kind)
        return Credentials(Tls(self.ours.crt, own.crt, own.key))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.mark.parametrize(("caller", "server"), ENDS)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_link_works_where_both_ends_show_what_the_other_trusts_and_nowhere_else(
    world: World, kind: str, caller: str, server: str
) -> None:
    async with serving(world.port(server)) as address:
        link = KINDS[kind](address, world.caller(caller))
        assert await link.works() is ((caller, server) == ("good", "good"))
        await link.aclose()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_link_goes_on_while_both_certificates_are_renewed_and_the_old_ones_end(
    world: World, kind: str
) -> None:
    shown, links = world.port(), world.caller()
    security = Security(links=links, certificates=(shown,))
    async with serving(shown) as address, going_on(KINDS[kind](address, links).works) as more:
        for _ in range(3):
            world.issue("server", "good")
            world.issue("caller", "good")
            security.refresh()
            await more()
    assert shown.reloads == 3 and links.generation == 4


@pytest.mark.parametrize("kind", KINDS)
async def test_a_link_comes_back_by_itself_once_an_expired_certificate_is_renewed(
    world: World, kind: str
) -> None:
    shown, links = world.port(), world.caller("expired")
    security = Security(links=links, certificates=(shown,))
    async with serving(shown) as address:
        link = KINDS[kind](address, links)
        assert not await link.works()
        world.issue("caller", "good")
        security.refresh()
        async with asyncio.timeout(30):
            while not await link.works():
                await asyncio.sleep(0.05)
        await link.aclose()


@asynccontextmanager
async def going_on(
    works: Callable[[], Awaitable[bool]],
) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """Calls without pause, each of which works; what it gives waits for some more of them."""
    made = 0

    async def run() -> None:
        nonlocal made
        while True:
            assert await works()
            made += 1

    async def more() -> None:
        goal = made + 20
        async with asyncio.timeout(30):
            while made < goal:
                assert not task.done(), task.exception()
                await asyncio.sleep(0.01)

    task = asyncio.create_task(run())
    await more()
    try:
        yield more
    finally:
        task.cancel()
        await asyncio.wait({task})
