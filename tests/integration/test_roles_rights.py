"""What an identity may do is what the auth file says now: uids, kinds of requests, tokens."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from certificates import Authority
from guarded_ports import GuardedPorts, Somebody, entry, guarded, written
from guarded_ports.callers import bearer
from seqsvr.v1 import alloc_pb2 as pb
from seqsvr.v1 import alloc_pb2_grpc
from seqsvr.wire import reason_of
from svrprocess import rights
from svrprocess.failures import WrongUsage
from svrprocess.identities import Identities

DENIED = pb.REASON_PERMISSION_DENIED
ALL = [*range(4096)]


class Stub:
    """Of seqsvr.v1.Alloc at one port, with a token."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._stub: Any = alloc_pb2_grpc.AllocStub(channel)  # type: ignore[no-untyped-call]
        self._metadata = bearer(token)

    async def __call__(self, method: str, request: Any) -> Any:
        return await getattr(self._stub, method)(request, metadata=self._metadata, timeout=20)

    def session(self) -> Any:
        return self._stub.Session(metadata=self._metadata, timeout=60)


@asynccontextmanager
async def stub(ports: GuardedPorts, token: str, port: str = "client") -> AsyncIterator[Stub]:
    async with ports.channel(port, Somebody(token)) as channel:
        yield Stub(channel, token)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(
        tmp_path / "auth.toml",
        entry("few", "allocator", uids=["0-9", "4000"]),
        entry("reads", "reader", uids=["0-9"]),
        entry("changes", "operator", uids=["0-9"]),
        entry("all", "allocator", "operator"),
        entry("servers", "internal"),
    )


@pytest.fixture
async def ports(
    tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[GuardedPorts]:
    async with guarded(tmp_path, monkeypatch, "--auth-file", file) as found:
        yield found


def refused(answer: Any) -> list[int]:
    """Indexes of the entries that were denied; any other failure is a fault."""
    assert all(error.reason == DENIED for error in answer.errors), answer.errors
    return [error.index for error in answer.errors]


async def denied(call: Awaitable[Any]) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert reason_of(caught.value)[0] == "PERMISSION_DENIED"
    return caught.value.details() or ""


async def ended(stream: Any) -> str | None:
    """The reason with which a server ends a stream of its own accord."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(stream.read(), 30)
    reason = reason_of(caught.value)[0]
    assert caught.value.code().name == reason
    return reason


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await holds():
            await asyncio.sleep(0.05)


# -- uids ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("uids", [[5, 10, 6], ALL, [*range(10, 4000)], [999_999_999, 5]])
async def test_entries_outside_of_the_callers_uids_are_refused_and_the_others_served(
    ports: GuardedPorts, uids: list[int]
) -> None:
    wanted = [i for i, uid in enumerate(uids) if not (uid < 10 or uid == 4000)]
    known = [uid for uid in uids if uid < 100_000]
    before = ports.metric("seqsvr_denied_total", rpc="BatchGetSeq", reason="PERMISSION_DENIED")
    async with stub(ports, "all") as everything:  # what is in use is answered in another way
        await everything("BatchGetSeq", pb.BatchGetSeqRequest(uids=known))
    async with stub(ports, "few") as few:
        answer = await few("BatchGetSeq", pb.BatchGetSeqRequest(uids=uids))
        assert refused(answer) == wanted
        assert [i for i, seq in enumerate(answer.seqs) if not seq] == wanted
        current = await few("BatchGetCurSeq", pb.BatchGetCurSeqRequest(uids=uids))
        assert refused(current) == wanted
        assert list(current.seqs) == list(answer.seqs)
        session = few.session()
        await session.write(pb.SessionRequest(id=1, next=pb.BatchGetSeqRequest(uids=uids)))
        got = await session.read()
        assert refused(got.next) == wanted
        await session.write(pb.SessionRequest(id=2, current=pb.BatchGetCurSeqRequest(uids=uids)))
        assert refused((await session.read()).current) == wanted
        session.cancel()
    after = ports.metric("seqsvr_denied_total", rpc="BatchGetSeq", reason="PERMISSION_DENIED")
    assert after - before == len(wanted)
    async with stub(ports, "all") as everything:
        now = await everything("BatchGetCurSeq", pb.BatchGetCurSeqRequest(uids=known))
        foreign = {uids[i] for i in wanted}
        assert list(now.seqs) == [1 if uid in foreign else 3 for uid in known]


async def test_a_batch_of_ones_own_uids_is_answered_as_by_anybody(ports: GuardedPorts) -> None:
    uids = [uid % 10 for uid in ALL]
    async with stub(ports, "few") as few:
        session = few.session()
        await session.write(pb.SessionRequest(id=1, next=pb.BatchGetSeqRequest(uids=uids)))
        answer = (await session.read()).next
        assert not answer.errors
        assert list(answer.seqs[-10:]) == [410 if uid < 6 else 409 for uid in uids[-10:]]
        session.cancel()


async def test_what_waits_for_a_raise_is_told_apart_from_what_is_refused(
    ports: GuardedPorts,
) -> None:
    batch = pb.BatchGetSeqRequest(uids=[20, 5, 5, 21, 5], counts=[10_000] * 5)
    async with stub(ports, "few") as few:
        answer = await few("BatchGetSeq", batch)
        assert refused(answer) == [0, 3]
        assert list(answer.seqs) == [0, 1, 10_001, 0, 20_001]
        session, seqs = few.session(), [-1] * 5
        await session.write(pb.SessionRequest(id=1, next=batch))
        while -1 in seqs:
            part = await session.read()
            for at, seq in zip(part.indexes or range(5), part.next.seqs, strict=True):
                seqs[at] = seq
        assert seqs == [0, 30_001, 40_001, 0, 50_001]
        session.cancel()


async def test_a_single_call_for_anothers_uid_is_refused(ports: GuardedPorts) -> None:
    async with stub(ports, "few") as few:
        assert (await few("GetSeq", pb.GetSeqRequest(uid=4000))).seq == 1
        for method, request in (
            ("GetSeq", pb.GetSeqRequest(uid=10)),
            ("GetCurSeq", pb.GetCurSeqRequest(uid=10)),
            ("GetSeq", pb.GetSeqRequest(uid=2**63)),  # nor is it said what uids there are
        ):
            assert f"uid {request.uid} is outside" in await denied(few(method, request))


async def test_numbers_are_advanced_at_the_peer_port_and_only_ones_own(ports: GuardedPorts) -> None:
    request = pb.AdvanceSeqRequest(uids=[1, 20], at_least=[50, 50])
    async with stub(ports, "changes") as client, stub(ports, "changes", "peer") as peer:
        assert "this port" in await denied(client("AdvanceSeq", request))
        answer = await peer("AdvanceSeq", request)
        assert list(answer.seqs) == [50, 0]
        assert refused(answer) == [1]


# -- kinds -----------------------------------------------------------------------------------------


async def test_a_reader_has_no_numbers_in_a_session_but_reads_on(ports: GuardedPorts) -> None:
    async with stub(ports, "reads") as reads:
        session = reads.session()
        for uids in ([1], [1] * 4096):
            await session.write(pb.SessionRequest(id=1, next=pb.BatchGetSeqRequest(uids=uids)))
            answer = await session.read()
            assert answer.refused.reason == DENIED
            assert "allocator" in answer.refused.text
        await session.write(pb.SessionRequest(id=2, current=pb.BatchGetCurSeqRequest(uids=[1])))
        assert list((await session.read()).current.seqs) == [0]
        session.cancel()


async def test_what_was_forwarded_comes_to_the_peer_port_from_servers(ports: GuardedPorts) -> None:
    request = pb.BatchGetSeqRequest(uids=[1], forwarded=True)
    async with stub(ports, "all") as client, stub(ports, "servers", "peer") as peer:
        assert "peer port" in await denied(client("BatchGetSeq", request))
        session = client.session()
        await session.write(pb.SessionRequest(id=1, next=request))
        assert (await session.read()).refused.reason == DENIED
        session.cancel()
        assert list((await peer("BatchGetSeq", request)).seqs) == [1]
    async with stub(ports, "changes", "peer") as operator:
        forged = pb.AdvanceSeqRequest(uids=[1], at_least=[9], forwarded=True)
        assert "internal" in await denied(operator("AdvanceSeq", forged))


async def test_administrative_routes_lead_to_the_peer_port(ports: GuardedPorts) -> None:
    admin = pb.GetRouteRequest(admin=True)
    async with stub(ports, "reads") as reads, stub(ports, "changes") as changes:
        assert list((await reads("GetRoute", pb.GetRouteRequest())).table.addresses) == [
            ports.addresses["client"]
        ]
        assert "operator" in await denied(reads("GetRoute", admin))
        table = (await changes("GetRoute", admin)).table
        assert list(table.addresses) == [ports.addresses["peer"]]
        plain = (await changes("GetRoute", pb.GetRouteRequest())).table
        assert plain.version == table.version
        assert ports.addresses["peer"] != ports.addresses["client"]
    async with stub(ports, "changes", "peer") as peer:
        again = (await peer("GetRoute", pb.GetRouteRequest())).table
        assert list(again.addresses) == [ports.addresses["peer"]]


# -- rights that change ----------------------------------------------------------------------------


async def test_a_running_session_has_the_rights_in_force(ports: GuardedPorts, file: Path) -> None:
    async with stub(ports, "few") as few, stub(ports, "all") as everything:
        session, idle, others = few.session(), few.session(), everything.session()

        async def is_refused(uid: int) -> bool:
            await session.write(pb.SessionRequest(id=1, next=pb.BatchGetSeqRequest(uids=[uid])))
            return bool(refused((await session.read()).next))

        await idle.write(pb.SessionRequest(id=1, next=pb.BatchGetSeqRequest(uids=[1])))
        await idle.read()
        assert not await is_refused(5)
        assert await is_refused(20)
        written(file, entry("few", "allocator", uids=["20"]), entry("all", "allocator"))
        await eventually(lambda: is_refused(5))
        assert not await is_refused(20)
        written(file, entry("all", "allocator"))
        for stream in (session, idle):
            assert await ended(stream) == "UNAUTHENTICATED"
        await others.write(pb.SessionRequest(id=1, next=pb.BatchGetSeqRequest(uids=[7])))
        assert (await others.read()).next.seqs[0]
        others.cancel()


async def test_a_session_of_a_caller_who_loses_its_role_ends(
    ports: GuardedPorts, file: Path
) -> None:
    async with stub(ports, "few") as few:
        session = few.session()
        await session.write(pb.SessionRequest(id=1, next=pb.BatchGetSeqRequest(uids=[1])))
        await session.read()
        written(file, entry("few", "internal"))
        assert await ended(session) == "PERMISSION_DENIED"
        assert not ports.metric("seqsvr_auth_file_refused")


@pytest.mark.parametrize("how", ["broken", "gone", "open to all", "without a token"])
async def test_a_file_that_cannot_be_used_changes_nothing(
    ports: GuardedPorts, file: Path, how: str
) -> None:
    good = file.read_text()
    if how == "gone":
        file.unlink()
    elif how == "open to all":
        file.chmod(0o644)
    else:
        written(file, "[[identity]]\nroles = 1" if how == "broken" else "")

    async def is_told(value: float = 1.0) -> bool:
        return ports.metric("seqsvr_auth_file_refused") == value

    await eventually(is_told)
    async with stub(ports, "few") as few:
        assert (await few("GetSeq", pb.GetSeqRequest(uid=1))).seq == 1
        written(file, good)
        await eventually(lambda: is_told(0.0))
        assert (await few("GetSeq", pb.GetSeqRequest(uid=1))).seq == 2


@pytest.mark.parametrize("fault", [WrongUsage("EMFILE"), RuntimeError("can't start new thread")])
async def test_a_file_that_could_not_be_read_for_a_moment_is_read_although_nothing_changes(
    ports: GuardedPorts, file: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    faults, whole = [fault], rights.read

    def read(path: str) -> Identities:
        if faults:
            raise faults.pop()
        return whole(path)

    async def is_revoked() -> bool:
        try:
            await few("GetSeq", pb.GetSeqRequest(uid=1))
        except grpc.aio.AioRpcError as error:
            return error.code() is grpc.StatusCode.UNAUTHENTICATED
        return False

    monkeypatch.setattr(rights, "read", read)
    written(file, entry("all", "allocator"))
    async with stub(ports, "few") as few:
        await eventually(is_revoked)
    assert not faults and not ports.metric("seqsvr_auth_file_refused")


# -- starts, and logs ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "has no token"),
        ('[[identity]]\nname = "a"\nsan = "a.example"\nroles = ["reader"]', "has no token"),
        ('[[identity]]\nname = "a"\nroles = ["reader"]', r"identity 1 \('a'\): it needs a token"),
        ("[[identity]", "not TOML"),
    ],
)
async def test_a_start_that_would_give_nobody_a_role_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, says: str
) -> None:
    file = written(tmp_path / "auth.toml", content)
    with pytest.raises(WrongUsage, match=rf"--auth-file: .*{says}"):
        async with guarded(tmp_path, monkeypatch, "--auth-file", file):
            pass


async def test_tls_without_roles_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Authority(tmp_path / "ca").issue("server", dns=["localhost"])
    with pytest.raises(
        WrongUsage, match=r"--cert-file alone gives nobody a role: .* --client-cert"
    ):
        async with guarded(tmp_path, monkeypatch, "--cert-file", ours.crt, "--key-file", ours.key):
            pass


async def test_names_from_outside_stand_on_one_line_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ca = Authority(tmp_path / "ca")
    ours = ca.issue("server", dns=["localhost"], ips=["127.0.0.1"])
    options = "--cert-file", ours.crt, "--key-file", ours.key, "--trusted-ca-file", ca.crt
    peer = [str(part).replace("--", "--peer-") for part in options]
    evil = Somebody("evil", ca.crt, ca.issue("good\nevent=granted"))
    auths = "--client-cert-auth", "--peer-client-cert-auth"
    opened = guarded(tmp_path, monkeypatch, *options, *peer, *auths)
    async with opened as ports, ports.channel("client", evil) as channel:
        plain: Any = alloc_pb2_grpc.AllocStub(channel)  # type: ignore[no-untyped-call]
        text = await denied(plain.GetSeq(pb.GetSeqRequest(uid=1)))
    assert "good\\nevent=granted has no role" in text
    [line] = [r.getMessage() for r in caplog.records if "event=denied" in r.getMessage()]
    assert "\n" not in line
