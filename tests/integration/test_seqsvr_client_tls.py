"""AsyncClient and Client over TLS: who is let in, what an error says, and new files under load."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import grpc
import pytest

import seqsvr
from certificates import Authority, Issued, bundle
from fake_alloc import FakeAlloc, table_of
from seqcheck.history import check
from seqctl.history import HistoryReader
from seqsvr import channels

HOST = "127.0.0.1"


def secured(
    authority: Authority, issued: Issued, *, trusts: Path | None = None
) -> grpc.ServerCredentials:
    """Of a server that wants certificates of its callers."""
    pair = (issued.key.read_bytes(), issued.crt.read_bytes())
    roots = (trusts or authority.crt).read_bytes()
    return grpc.ssl_server_credentials([pair], root_certificates=roots, require_client_auth=True)


def of(authority: Authority, issued: Issued, server_name: str = "") -> seqsvr.Tls:
    return seqsvr.Tls(ca=authority.crt, cert=issued.crt, key=issued.key, server_name=server_name)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are looked at as often as they are changed here."""
    monkeypatch.setattr("seqsvr.renewal.POLL_S", 0.02)


@pytest.fixture
async def node(authority: Authority) -> AsyncIterator[FakeAlloc]:
    """A node that wants certificates."""
    security = secured(authority, authority.issue("server", ips=[HOST]))
    async with FakeAlloc(security=security) as node:
        yield node


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text("s3cret\n")
    return file


async def test_every_call_goes_over_tls_with_certificate_and_token(
    authority: Authority, node: FakeAlloc, token: Path
) -> None:
    tls = of(authority, authority.issue("me"))
    async with seqsvr.AsyncClient(node.address, tls=tls, token_file=token) as seq:
        assert await seq.next(7) == 1
        assert await seq.next_many(range(20)) == [2 if uid == 7 else 1 for uid in range(20)]
        assert (await seq.current(7)).value == 2
        assert await seq.advance(7, 100) == 100
        assert (await seq.route()).version == 1
    assert len(node.tokens) >= 5  # routes, the table of second ports, a stream, an advance
    assert set(node.tokens) == {"Bearer s3cret"}
    assert set(node.callers) == {"me"}


def test_the_blocking_twin_does_the_same(authority: Authority, token: Path) -> None:
    tls = of(authority, authority.issue("me"))

    async def use() -> None:
        security = secured(authority, authority.issue("server", ips=[HOST]))
        async with FakeAlloc(security=security) as node:

            def work() -> None:
                with seqsvr.Client(node.address, tls=tls, token_file=token) as seq:
                    assert [seq.next(7), seq.next_range(7, 2), seq.advance(7, 9)] == [
                        1,
                        range(2, 4),
                        9,
                    ]

            await asyncio.to_thread(work)
            assert set(node.tokens) == {"Bearer s3cret"}
            assert set(node.callers) == {"me"}

    asyncio.run(use())


async def test_a_token_goes_over_plaintext_where_there_is_no_tls(token: Path) -> None:
    async with FakeAlloc() as node, seqsvr.AsyncClient(node.address, token_file=token) as seq:
        assert await seq.next(7) == 1
        assert set(node.tokens) == {"Bearer s3cret"}


async def test_nothing_is_looked_at_where_there_are_no_files() -> None:
    async with seqsvr.AsyncClient("127.0.0.1:1"):
        assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("kind", ["foreign", "expired", "name", "plain client", "plain server"])
async def test_a_handshake_that_fails_says_why(
    kind: str, authority: Authority, tmp_path: Path
) -> None:
    foreign = Authority(tmp_path / "foreign")
    tls: seqsvr.Tls | None = of(authority, authority.issue("me"))
    issuer = foreign if kind == "foreign" else authority
    ips = ["127.0.0.2"] if kind == "name" else [HOST]
    issued = issuer.issue("server", ips=ips, expired=kind == "expired")
    security = None if kind == "plain server" else secured(authority, issued)
    said = {
        "foreign": "CERTIFICATE_VERIFY_FAILED",
        "expired": "CERTIFICATE_VERIFY_FAILED.*expired",
        "name": "Hostname Verification Check failed",
        "plain client": r"does it serve TLS\?",
        "plain server": "WRONG_VERSION_NUMBER",
    }[kind]
    tls = None if kind == "plain client" else tls
    async with FakeAlloc(security=security) as node, seqsvr.AsyncClient(node.address, tls=tls) as s:
        with pytest.raises(seqsvr.Unavailable, match=said) as caught:
            await s.next(7, timeout=1.0)
        assert caught.value.reason == "UNREACHABLE"


async def test_a_session_whose_handshake_fails_says_why_too(
    authority: Authority, node: FakeAlloc
) -> None:
    stranger = secured(authority, authority.issue("stranger", ips=["127.0.0.2"]))
    async with FakeAlloc(security=stranger) as owner:
        node.table = table_of({(0, 99): owner.address})
        tls = of(authority, authority.issue("me"))
        async with seqsvr.AsyncClient(node.address, tls=tls) as seq:
            with pytest.raises(seqsvr.Unavailable, match=r"(?i)handshake|verif"):
                await seq.next(7, timeout=1.5)


async def test_a_server_may_be_made_out_to_a_name(authority: Authority) -> None:
    security = secured(authority, authority.issue("server", dns=["alloc.example"]))
    tls = of(authority, authority.issue("me"), server_name="alloc.example")
    async with FakeAlloc(security=security) as node, seqsvr.AsyncClient(node.address, tls=tls) as s:
        assert await s.next(7) == 1


async def test_a_caller_without_a_certificate_is_not_let_in(
    authority: Authority, node: FakeAlloc
) -> None:
    tls = seqsvr.Tls(ca=authority.crt)
    async with seqsvr.AsyncClient(node.address, tls=tls) as seq:
        with pytest.raises(seqsvr.Unavailable, match=r"does it accept our certificate\?"):
            await seq.next(7, timeout=0.5)
    assert not node.callers


# --- new files


class Load:
    """Callers that never stop; an error of any is an error of `running`."""

    def __init__(self, seq: seqsvr.AsyncClient) -> None:
        self._seq = seq
        self.calls = 0

    @asynccontextmanager
    async def running(self, callers: int = 20) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self._call(uid)) for uid in range(callers)]
            running.append(tasks.create_task(self._call_many()))
            yield
            self._over = True
            await asyncio.wait(running)

    _over = False

    async def _call(self, uid: int) -> None:
        while not self._over:
            await self._seq.next(uid, timeout=20)
            await self._seq.current(uid, timeout=20)
            self.calls += 2

    async def _call_many(self) -> None:
        while not self._over:
            await self._seq.next_many(range(100, 200), timeout=20)
            self.calls += 100

    async def further(self, calls: int = 2_000) -> None:
        goal = self.calls + calls
        while self.calls < goal:
            await asyncio.sleep(0.005)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.01)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "bulks"])
async def test_certificates_change_under_load_and_no_call_fails(
    authority: Authority, node: FakeAlloc, token: Path, tmp_path: Path, recorded: bool
) -> None:
    """Three times, each with files that are half written in between."""
    history = tmp_path / "history" if recorded else None
    tls = of(authority, authority.issue("me"))
    async with seqsvr.AsyncClient(node.address, tls=tls, token_file=token, history=history) as seq:
        load = Load(seq)
        async with load.running():
            for turn in range(3):
                await load.further()
                renew(authority, f"me-{turn}")
                token.write_text(f"token-{turn}")
                await until(lambda n=turn: node.callers[-1] == f"me-{n}")  # type: ignore[misc]
                await until(lambda n=turn: node.tokens[-1] == f"Bearer token-{n}")  # type: ignore[misc]
            await load.further()
            await until(lambda: node.open_streams == 1)  # the old ones have been drained
    if history is not None:
        report = check(HistoryReader([str(history)]))
        assert not report.violations
        assert (report.statistics.failed, report.statistics.calls > load.calls - 200) == (0, True)


def renew(authority: Authority, name: str) -> None:
    """Have the files of `me` be those of another name, by way of half a file."""
    new = authority.issue(name)
    me = authority.directory / "me.crt"
    whole = new.crt.read_bytes()
    me.write_bytes(whole[:100])
    shutil.copy(new.key, authority.directory / "me.key")
    me.write_bytes(whole)


@pytest.mark.usefixtures("quick")
async def test_while_authorities_change_old_and_new_servers_go_on_serving(
    authority: Authority, tmp_path: Path
) -> None:
    """The file with the authority is replaced before the second server has its certificate."""
    later = Authority(tmp_path / "later")
    both = bundle(tmp_path / "both.crt", [authority.crt, later.crt])
    ours = bundle(tmp_path / "ours.crt", [authority.crt])
    issued = authority.issue("me")
    tls = seqsvr.Tls(ca=ours, cert=issued.crt, key=issued.key)
    first = secured(authority, authority.issue("first", ips=[HOST]), trusts=both)
    second = secured(authority, authority.issue("second", ips=[HOST]), trusts=both)
    async with FakeAlloc(security=first) as one, FakeAlloc(security=second) as other:
        one.table = other.table = table_of({(0, 0): one.address, (1, 99): other.address})
        async with seqsvr.AsyncClient([one.address, other.address], tls=tls) as seq:
            load = Load(seq)
            async with load.running():
                await load.further()
                bundle(ours, [later.crt])  # neither server has a certificate by that one
                await load.further()
                assert (one.streams, other.streams) == (1, 1)
                for node in (one, other):
                    fresh = later.issue("fresh", ips=[HOST])
                    await node.stop()
                    node.security = secured(later, fresh, trusts=both)
                    await node.start()
                    await until(lambda node=node: node.open_streams == 1)  # type: ignore[misc]
                    await load.further()


async def test_a_connection_that_is_made_anew_is_made_with_the_new_files(
    authority: Authority, node: FakeAlloc
) -> None:
    """However long ago they were looked at: the old ones may have expired."""
    tls = of(authority, authority.issue("me"))
    async with seqsvr.AsyncClient(node.address, tls=tls) as seq:
        assert await seq.next(7) == 1
        await node.stop()
        new = authority.issue("me-later")
        os.replace(new.key, authority.directory / "me.key")
        os.replace(new.crt, authority.directory / "me.crt")
        await node.start()
        assert (await seq.next(7, timeout=20), node.callers[-1]) == (2, "me-later")


@pytest.mark.usefixtures("quick")
async def test_a_certificate_that_does_not_connect_harms_nothing_that_is_open(
    authority: Authority, node: FakeAlloc, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tls = of(authority, authority.issue("me"))
    async with seqsvr.AsyncClient(node.address, tls=tls) as seq:
        assert await seq.next(7) == 1
        right = authority.crt.read_bytes()
        authority.crt.write_bytes(Authority(tmp_path / "foreign").crt.read_bytes())
        await until(lambda: "CERTIFICATE_VERIFY_FAILED" in caplog.text)
        assert await seq.next(7) == 2
        await asyncio.sleep(0.2)
        assert caplog.text.count("do not connect yet") == 1
        assert (node.streams, node.open_streams) == (1, 1)
        authority.crt.write_bytes(right)
        await until(lambda: node.open_streams == 0)
        assert (await seq.next(7), node.streams) == (3, 2)


@pytest.mark.usefixtures("quick")
async def test_what_is_queued_while_a_connection_is_being_made_goes_over_to_the_next(
    authority: Authority, node: FakeAlloc, token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one hangs for longer than the call may take."""
    patient = ("grpc.min_reconnect_backoff_ms", 60_000)
    options = [one for one in channels._OPTIONS if one[0] != patient[0]]
    monkeypatch.setattr(channels, "_OPTIONS", [*options, patient])
    async with Sluice(node.address) as sluice:
        node.table = table_of({(0, 99): sluice.address})
        tls = of(authority, authority.issue("me"))
        async with seqsvr.AsyncClient(node.address, tls=tls, token_file=token) as seq:
            call = asyncio.create_task(seq.next(7, timeout=20))
            await until(lambda: sluice.connections == 1)
            sluice.open = True
            token.write_text("later")
            assert await call == 1
            assert (node.tokens[-1], sluice.connections) == ("Bearer later", 2)


class Sluice:
    """Passes connections on to an address once it is open; those from before hang."""

    def __init__(self, target: str) -> None:
        self._target = target
        self.connections = 0
        self.open = False
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, HOST)
        _, port = self._server.sockets[0].getsockname()
        self.address = f"{HOST}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()

    async def _connected(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(back)
        if not self.open:
            return
        far, there = await asyncio.open_connection(*self._target.split(":"))
        self._writers.append(there)
        async with asyncio.TaskGroup() as tasks:
            for source, sink in ((near, there), (far, back)):
                tasks.create_task(self._pass_on(source, sink))

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while piece := await source.read(65_536):
                sink.write(piece)
        except OSError:
            pass
        sink.close()


async def test_closing_a_client_leaves_nothing_running(authority: Authority, token: Path) -> None:
    seq = seqsvr.AsyncClient("127.0.0.1:1", tls=seqsvr.Tls(ca=authority.crt), token_file=token)
    async with seq:
        assert len(asyncio.all_tasks()) == 2
    assert asyncio.all_tasks() == {asyncio.current_task()}
