"""Ports and links over TLS: who gets in, and what goes on while certificates are renewed."""

import asyncio
import shutil
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from certificates import Authority, Issued, bundle
from seqsvr.credentials import Credentials
from seqsvr.link import Link
from seqsvr.tls import Tls
from svrprocess import metrics_page
from svrprocess.certificates import Certificate
from svrprocess.failures import WrongUsage
from svrprocess.front import Front
from svrprocess.listening import serve_metrics
from svrprocess.security import Port, Security

_HOSTS: dict[str, Any] = {"dns": ["localhost"], "ips": ["127.0.0.1"]}
_CHECK = health_pb2.HealthCheckRequest(service="")


@dataclass
class World:
    """Two authorities that know nothing of each other, and the files of a server."""

    folder: Path
    ours: Authority = field(init=False)
    theirs: Authority = field(init=False)
    server: Issued = field(init=False)

    def __post_init__(self) -> None:
        self.ours = Authority(self.folder / "ours")
        self.theirs = Authority(self.folder / "theirs")
        self.server = self.ours.issue("server", **_HOSTS)

    def certificate(self, *, mutual: bool = True) -> Certificate:
        ca = str(self.ours.crt) if mutual else ""
        return Certificate("peer", str(self.server.crt), str(self.server.key), ca)

    def caller(self, kind: str) -> Credentials:
        """good, expired, foreign, or missing (no certificate at all)."""
        if kind == "missing":
            return Credentials(Tls(ca=self.ours.crt))
        authority = self.theirs if kind == "foreign" else self.ours
        own = authority.issue(f"caller-{kind}", expired=kind == "expired")
        return Credentials(Tls(ca=self.ours.crt, cert=own.crt, key=own.key))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@asynccontextmanager
async def serving(certificate: Certificate | None) -> AsyncIterator[str]:
    front = Front()
    address = front.bind("127.0.0.1:0", Port("peer", certificate))
    await front.start()
    try:
        yield address
    finally:
        await front.aclose(0)


async def ask(address: str, credentials: Credentials) -> str:
    """How a call ends: OK, or the name of its status."""
    link = Link(address, credentials, [], health_pb2_grpc.HealthStub)
    try:
        await link.call("Check", _CHECK, timeout=20)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    finally:
        await link.aclose()
    return "OK"


# -- who gets in


@pytest.mark.parametrize("kind", ["good", "expired", "foreign", "missing"])
async def test_only_a_good_certificate_gets_in_where_one_is_demanded(
    world: World, kind: str
) -> None:
    async with serving(world.certificate()) as address:
        assert await ask(address, world.caller(kind)) == ("OK" if kind == "good" else "UNAVAILABLE")


async def test_nobody_is_asked_for_a_certificate_where_none_is_demanded(world: World) -> None:
    async with serving(world.certificate(mutual=False)) as address:
        assert await ask(address, world.caller("missing")) == "OK"


@pytest.mark.parametrize("kind", ["expired", "foreign", "another host", "plain"])
async def test_a_caller_refuses_a_server_that_is_not_what_it_claims(
    world: World, kind: str
) -> None:
    server = world.theirs.issue("server", **_HOSTS) if kind == "foreign" else world.server
    if kind == "expired":
        server = world.ours.issue("server", **_HOSTS, expired=True)
    if kind == "another host":
        server = world.ours.issue("server", dns=["elsewhere"])
    shown = Certificate("peer", str(server.crt), str(server.key), str(world.ours.crt))
    async with serving(None if kind == "plain" else shown) as address:
        assert await ask(address, world.caller("good")) == "UNAVAILABLE"


async def test_a_plain_caller_gets_nothing_from_a_port_with_tls(world: World) -> None:
    async with serving(world.certificate()) as address:
        assert await ask(address, Credentials()) == "UNAVAILABLE"
        assert await ask(address, world.caller("good")) == "OK"


async def test_a_thousand_who_hang_up_before_the_handshake_leave_the_port_as_it_was(
    world: World,
) -> None:
    async with serving(world.certificate()) as address:
        host, port = address.split(":")
        for _ in range(1000):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.close()
        assert await ask(address, world.caller("good")) == "OK"


# -- renewal


async def lent_now(link: Link[Any]) -> Any:
    """The stub of the moment, after a call by it."""
    with link.lent() as stub:
        await stub.Check(_CHECK, timeout=20)
        return stub


class Answered:
    """A caller without pause over one link, until its `async with` ends."""

    def __init__(self, address: str, credentials: Credentials) -> None:
        self.link = Link(address, credentials, [], health_pb2_grpc.HealthStub)
        self.calls = 0

    async def __aenter__(self) -> "Answered":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *raised: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task  # raises what a call did
        await self.link.aclose()

    async def more(self, calls: int = 20) -> None:
        """Some more are answered from now on."""
        goal = self.calls + calls
        async with asyncio.timeout(30):
            while self.calls < goal:
                assert not self._task.done(), self._task.exception()
                await asyncio.sleep(0.01)

    async def _run(self) -> None:
        while True:
            await self.link.call("Check", _CHECK, timeout=20)
            self.calls += 1


@pytest.mark.parametrize("first", ["port", "link"])
async def test_authority_and_certificates_of_both_ends_change_and_no_call_fails(
    world: World, tmp_path: Path, first: str
) -> None:
    """All files at once, though one end reads its own a while before the other. The old ones are
    worth nothing any more in the end, on either side."""
    files = [bundle(tmp_path / f"{name}.crt", [world.ours.crt]) for name in ("port", "link")]
    caller, early = world.ours.issue("caller"), world.caller("good")
    shown = Certificate("peer", str(world.server.crt), str(world.server.key), str(files[0]))
    links = Credentials(Tls(ca=files[1], cert=caller.crt, key=caller.key))
    ends = [shown.refresh, links.refresh][:: 1 if first == "port" else -1]
    async with serving(shown) as address, Answered(address, links) as answered:
        await answered.more()
        for file in files:
            bundle(file, [world.theirs.crt, world.ours.crt])
        for name, old in (("server", world.server), ("caller", caller)):
            new = world.theirs.issue(name, **_HOSTS)
            shutil.copy(new.key, old.key)
            shutil.copy(new.crt, old.crt)
        for refresh in ends:
            refresh()
            await asyncio.sleep(1)  # long enough for attempts to connect to fail
            await answered.more()
        for file in files:
            bundle(file, [world.theirs.crt])
        for refresh in ends:
            refresh()
            await answered.more()
        assert await ask(address, early) == "UNAVAILABLE"
        assert await ask(address, links) == "OK"
        async with asyncio.timeout(30):
            while answered.link._line is None or answered.link._line.generation != 3:
                await asyncio.sleep(0.05)
    assert shown.reloads == 2 and links.generation == 3 and shown.failures == 0


async def test_a_link_that_has_lost_its_connection_takes_the_new_certificate_at_once(
    world: World,
) -> None:
    """The old one may have ended meanwhile."""
    caller = world.ours.issue("caller", expired=True)
    links = Credentials(Tls(ca=world.ours.crt, cert=caller.crt, key=caller.key))
    async with serving(world.certificate()) as address:
        link = Link(address, links, [], health_pb2_grpc.HealthStub)
        with pytest.raises(grpc.aio.AioRpcError):
            await link.call("Check", _CHECK, timeout=20)
        world.ours.issue("caller")
        assert links.refresh()
        await link.call("Check", _CHECK, timeout=20)
        await link.aclose()


async def test_certificates_that_nobody_accepts_leave_a_link_on_its_old_channel(
    world: World,
) -> None:
    caller = world.ours.issue("caller")
    links = Credentials(Tls(ca=world.ours.crt, cert=caller.crt, key=caller.key))
    async with serving(world.certificate()) as address, Answered(address, links) as answered:
        await answered.more()
        bad = world.theirs.issue("caller"), world.ours.issue("expired", expired=True)
        for new in bad:
            shutil.copy(new.key, caller.key)
            shutil.copy(new.crt, caller.crt)
            assert links.refresh()
            await asyncio.sleep(0.5)
            await answered.more()
        world.ours.issue("caller")
        assert links.refresh()
        await answered.more()


async def test_what_is_in_flight_on_the_old_channel_is_still_answered(world: World) -> None:
    caller = world.ours.issue("caller")
    links = Credentials(Tls(ca=world.ours.crt, cert=caller.crt, key=caller.key))
    async with serving(world.certificate()) as address:
        link = Link(address, links, [], health_pb2_grpc.HealthStub)
        with link.lent() as old:
            stream = old.Watch(_CHECK)
            assert (await stream.read()).status == health_pb2.HealthCheckResponse.SERVING
            world.ours.issue("caller")
            assert links.refresh()
            async with asyncio.timeout(20):
                while (await lent_now(link)) is old:
                    await asyncio.sleep(0.01)
            await old.Check(_CHECK, timeout=20)
            assert not stream.done()
        async with asyncio.timeout(20):
            while not stream.done():  # given back, so its channel is closed
                await asyncio.sleep(0.01)
        await link.aclose()


async def test_files_that_do_not_fit_are_not_taken_and_counted_once_they_stay_so(
    world: World,
) -> None:
    shown = world.certificate()
    links = world.caller("good")
    before = shown.content
    async with serving(shown) as address:
        good = world.server.crt.read_bytes()
        for bad in (world.theirs.issue("other").crt.read_bytes(), good[: len(good) // 2], b""):
            world.server.crt.write_bytes(bad)
            failures = shown.failures
            shown.refresh()
            assert shown.failures == failures, "the rest may still be on its way"
            shown.refresh()
            assert shown.failures == failures + 1 and shown.content is before
            assert await ask(address, links) == "OK"
        world.server.crt.unlink()
        shown.refresh()
        shown.refresh()
        assert shown.failures == 4 and await ask(address, links) == "OK"
        world.ours.issue("server", **_HOSTS)
        shown.refresh()
        assert shown.reloads == 1 and shown.content is not before
        assert await ask(address, links) == "OK"


async def test_a_link_keeps_its_certificates_while_new_ones_do_not_fit(world: World) -> None:
    caller = world.ours.issue("caller")
    links = Credentials(Tls(ca=world.ours.crt, cert=caller.crt, key=caller.key))
    async with serving(world.certificate()) as address:
        caller.crt.write_bytes(world.ours.issue("other").crt.read_bytes())
        for _ in range(2):
            with pytest.raises(ValueError, match=r"caller\.crt"):
                links.refresh()
        assert links.generation == 1 and await ask(address, links) == "OK"


async def test_files_are_looked_at_by_the_program_itself(world: World) -> None:
    shown, links = world.certificate(), world.caller("good")
    security = Security(links=links, certificates=(shown,))
    registry = CollectorRegistry()
    security.measure(registry)
    async with security.kept_fresh():
        until = world.ours.issue("server", **_HOSTS, lasts=timedelta(hours=2)).ends
        async with asyncio.timeout(30):
            while not shown.reloads:
                await asyncio.sleep(0.05)
    text = generate_latest(registry).decode()
    assert 'seqsvr_certificate_reloads_total{link="peer"} 1.0' in text
    assert 'seqsvr_certificate_reload_failures_total{link="peer"} 0.0' in text
    expiry = registry.get_sample_value(
        "seqsvr_certificate_expiry_timestamp_seconds", {"link": "peer"}
    )
    assert expiry == until.timestamp()


async def test_one_look_that_fails_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("svrprocess.security.POLL_S", 0.01)
    security, looks, again = Security(), 0, asyncio.Event()

    class Files(Credentials):
        watched = True

        def look(self) -> bool:
            nonlocal looks
            looks += 1
            if looks == 1:
                raise MemoryError
            loop.call_soon_threadsafe(again.set)
            return False

    loop = asyncio.get_running_loop()
    security.links = Files()
    async with security.kept_fresh(), asyncio.timeout(20):
        await again.wait()


# -- the page of metrics


@pytest.fixture
def page(world: World) -> Iterator[Callable[[Certificate | None], str]]:
    registry = CollectorRegistry()
    Gauge("seqsvr_answer", "An answer.", registry=registry).set(42)
    yield lambda certificate: serve_metrics("127.0.0.1:0", registry, Port("metrics", certificate))


def scraped(address: str, world: World, own: Issued | None) -> bytes:
    context = ssl.create_default_context(cafile=str(world.ours.crt))
    if own is not None:
        context.load_cert_chain(own.crt, own.key)
    with urllib.request.urlopen(f"https://{address}/metrics", timeout=20, context=context) as got:
        return bytes(got.read())


@pytest.mark.parametrize("kind", ["good", "expired", "foreign", "missing"])
def test_metrics_are_shown_over_tls_to_those_with_a_good_certificate(
    world: World, page: Any, kind: str
) -> None:
    address = page(world.certificate())
    authority = world.theirs if kind == "foreign" else world.ours
    own = None if kind == "missing" else authority.issue("prom", expired=kind == "expired")
    if kind == "good":
        assert b"seqsvr_answer 42.0" in scraped(address, world, own)
    else:
        with pytest.raises(OSError):
            scraped(address, world, own)


def test_metrics_are_shown_under_the_renewed_certificate(world: World, page: Any) -> None:
    shown = world.certificate(mutual=False)
    address = page(shown)
    assert b"seqsvr_answer" in scraped(address, world, None)
    world.ours.issue("server", dns=["elsewhere"])
    shown.refresh()
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        scraped(address, world, None)


@pytest.mark.parametrize("tls", [True, False])
def test_readers_that_stop_halfway_stop_nobody_else(
    world: World, page: Any, tls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in a handshake nor in a request, and their threads end."""
    monkeypatch.setattr(metrics_page, "READER_S", 3.0)
    address = page(world.certificate(mutual=False) if tls else None)
    host, port = address.split(":")
    threads = threading.active_count()
    stalled = [socket.create_connection((host, int(port))) for _ in range(20)]
    for one in stalled:
        one.sendall(b"\x16\x03\x01" if tls else b"GET /metr")
    if tls:
        assert b"seqsvr_answer" in scraped(address, world, None)
    else:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=20) as got:
            assert b"seqsvr_answer" in got.read()
    deadline_s = time.monotonic() + 30
    while threading.active_count() > threads:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    for one in stalled:
        one.settimeout(20)
        with suppress(ConnectionResetError):
            one.recv(100)  # or it would raise TimeoutError
        one.close()


def test_no_more_than_so_many_readers_are_served_at_a_time(world: World, page: Any) -> None:
    address = page(None)
    host, port = address.split(":")
    threads = threading.active_count()
    many = [socket.create_connection((host, int(port))) for _ in range(100)]
    time.sleep(0.5)
    # Each has a thread for itself, and one that ends it.
    assert threading.active_count() - threads <= 2 * metrics_page.MAX_READERS
    for one in many:
        one.close()


# -- in the clear


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.9.9.9:0", "[::1]:0", "localhost:0"])
async def test_loopback_needs_no_tls(listen: str) -> None:
    port, front = Port("client"), Front()
    front.bind(listen, port)
    await front.aclose(0)
    assert not port.exposed


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "10.1.2.3:0", "host.example:0"])
async def test_another_address_needs_tls_or_insecure(listen: str) -> None:
    front = Front()
    with pytest.raises(WrongUsage, match="--peer-cert-file, or --insecure"):
        front.bind(listen, Port("peer"))
    with pytest.raises(WrongUsage, match="--cert-file, or --insecure"):
        serve_metrics(listen, CollectorRegistry())
    await front.aclose(0)


async def test_insecure_is_said_in_metrics_and_log(
    caplog: pytest.LogCaptureFixture, world: World
) -> None:
    security = Security(Port("client", insecure=True), Port("peer", world.certificate()))
    registry = CollectorRegistry()
    security.measure(registry)
    fronts = Front(), Front()
    fronts[0].bind("0.0.0.0:0", security.client)
    fronts[1].bind("0.0.0.0:0", security.peer)
    shown = {
        link: registry.get_sample_value("seqsvr_insecure", {"link": link})
        for link in ("client", "peer", "metrics")
    }
    assert shown == {"client": 1.0, "peer": 0.0, "metrics": 0.0}
    for front in fronts:
        await front.aclose(0)
