"""seqctl towards nodes that want certificates or tokens: as processes, against a scripted node."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from certificates import Authority, Issued
from fake_alloc import FakeAlloc
from seqctl.cluster_asking import ask_stores
from seqsvr import Tls
from seqsvr.credentials import Credentials
from seqsvr.v1 import store_pb2, store_pb2_grpc

HOST = "127.0.0.1"


class Healthy(FakeAlloc):
    """A node with the health service."""

    def add_others(self, server: grpc.aio.Server) -> None:
        self.health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self.health, server)

    async def start(self) -> None:
        await super().start()
        for service in ("", "seqsvr.ready"):
            await self.health.set(service, health_pb2.HealthCheckResponse.SERVING)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


@pytest.fixture
def issued(authority: Authority) -> Issued:
    return authority.issue("server", ips=[HOST])


@pytest.fixture
async def node(authority: Authority, issued: Issued) -> AsyncIterator[FakeAlloc]:
    async with Healthy(security=secured(authority, issued)) as node:
        yield node


@pytest.fixture
def shown(authority: Authority) -> list[str]:
    """What makes seqctl known to the node."""
    me = authority.issue("operator")
    return ["--ca", str(authority.crt), "--cert", str(me.crt), "--key", str(me.key)]


def secured(authority: Authority, issued: Issued) -> grpc.ServerCredentials:
    pair = (issued.key.read_bytes(), issued.crt.read_bytes())
    roots = authority.crt.read_bytes()
    return grpc.ssl_server_credentials([pair], root_certificates=roots, require_client_auth=True)


async def seqctl(*argv: str, **environment: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "seqctl", *argv),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", **environment},
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_every_command_that_calls_nodes_shows_its_certificate_and_token(
    node: FakeAlloc, shown: list[str], tmp_path: Path
) -> None:
    token, trace, floors = tmp_path / "token", tmp_path / "trace", tmp_path / "floors.csv"
    token.write_text("s3cret")
    token.chmod(0o600)
    trace.write_text("1 2 3\n4 5 6\n")
    floors.write_text("7,1000\n")
    commands = [
        ["next", "7"],
        ["current", "7"],
        ["route"],
        ["advance", "7", "--at-least", "100"],
        ["import", str(floors)],
        ["replay", str(trace)],
        ["status"],
    ]
    with_token = [*shown, "--token-file", str(token)]
    for command in commands:
        code, out, err = await seqctl(*command, "--addr", node.address, *with_token, "-o", "json")
        assert code == 0, err
        json.loads(out)
    assert set(node.tokens) == {"Bearer s3cret"}
    assert set(node.callers) == {"operator"}
    assert node.numbers[7] == 1000


async def test_the_environment_says_it_as_well(node: FakeAlloc, shown: list[str]) -> None:
    _, ca, _, cert, _, key = shown
    environment = {"SEQSVR_CA": ca, "SEQSVR_CERT": cert, "SEQSVR_KEY": key}
    code, out, err = await seqctl("next", "7", SEQSVR_ADDR=node.address, **environment)
    assert (code, out, err) == (0, "1\n", "")


async def test_a_server_may_be_made_out_to_a_name(authority: Authority, shown: list[str]) -> None:
    named = authority.issue("named", dns=["alloc.example"])
    async with FakeAlloc(security=secured(authority, named)) as node:
        where = ["--addr", node.address, "--server-name", "alloc.example"]
        assert (await seqctl("next", "7", *where, *shown))[:2] == (0, "1\n")


async def test_status_shows_when_certificates_expire(
    node: FakeAlloc, shown: list[str], issued: Issued
) -> None:
    code, out, err = await seqctl("status", "--addr", node.address, *shown, "-o", "json")
    assert (code, err) == (0, "")
    (status,) = json.loads(out)
    assert status["certificate"] == issued.ends.isoformat()
    _, out, _ = await seqctl("status", "--addr", node.address, *shown)
    assert issued.ends.isoformat() in out


async def test_status_shows_a_certificate_that_has_expired(
    authority: Authority, shown: list[str]
) -> None:
    old = authority.issue("old", ips=[HOST], expired=True)
    async with FakeAlloc(security=secured(authority, old)) as node:
        code, out, _ = await seqctl("status", "--addr", node.address, *shown, "-o", "json")
    (status,) = json.loads(out)
    assert (code, status["reachable"]) == (3, False)
    assert status["certificate"] == old.ends.replace(microsecond=0).isoformat()
    assert "CERTIFICATE_VERIFY_FAILED" in status["error"]


async def test_health_is_asked_for_over_tls(node: FakeAlloc, shown: list[str]) -> None:
    assert await seqctl("health", node.address, *shown) == (0, "SERVING\n", "")
    code, _, err = await seqctl("health", node.address)
    assert (code, "UNAVAILABLE: " in err) == (3, True)
    assert err.endswith("(does it serve TLS?)\n")


async def test_a_foreign_authority_is_named_as_what_is_wrong(
    node: FakeAlloc, shown: list[str], tmp_path: Path
) -> None:
    foreign = str(Authority(tmp_path / "foreign").crt)
    for command in (["next", "7", "--addr", node.address], ["health", node.address]):
        code, out, err = await seqctl(*command, *shown, "--ca", foreign, "--timeout", "1")
        assert (code, out) == (3, "")
        assert err.startswith(f"seqctl {command[0]}: ")
        assert "CERTIFICATE_VERIFY_FAILED" in err
        assert err.count("\n") == 1


async def test_a_caller_that_is_denied_is_told_so_at_once(
    node: FakeAlloc, shown: list[str]
) -> None:
    node.denies = grpc.StatusCode.PERMISSION_DENIED
    where = ["--addr", node.address, "--timeout", "50", *shown]
    code, _, err = await seqctl("next", "7", *where)
    assert (code, err) == (3, f"seqctl next: {node.address}: by script\n")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--cert", "client.crt"], "cert and key: one is of no use without the other"),
        (["--ca", "absent.crt"], "cannot read absent.crt"),
        (["--token-file", "absent"], "--token-file: cannot read absent"),
        (["--key", "/dev/null", "--cert", "x"], "--key: /dev/null is not a file"),
        (["--ca", "{token}"], "holds no certificates"),
        (["--token-file", "{open}"], "--token-file: {open} can be read by others"),
    ],
)
async def test_options_that_name_nothing_of_use_are_wrong_usage(
    options: list[str], said: str, tmp_path: Path
) -> None:
    files = {}
    for name, mode in (("token", 0o600), ("open", 0o644)):
        file = tmp_path / name
        file.write_text("s3cret")
        file.chmod(mode)
        files[name] = str(file)
    given = [option.format(**files) for option in options]
    code, _, err = await seqctl("next", "7", *given)
    assert code == 2
    assert said.format(**files) in err
    assert err.count("\n") == 1


class Replica(store_pb2_grpc.StoreServicer):
    """Says who asks it."""

    async def Info(self, request: store_pb2.InfoRequest, context: Any) -> store_pb2.InfoResponse:
        told = dict(context.invocation_metadata())
        assert context.auth_context()["x509_common_name"] == [b"operator"]
        return store_pb2.InfoResponse(replica=told["authorization"])


async def test_replicas_are_asked_over_tls_and_with_a_token(
    authority: Authority, issued: Issued, shown: list[str], tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret")
    tls = Tls(*shown[1::2])
    server = grpc.aio.server()
    store_pb2_grpc.add_StoreServicer_to_server(Replica(), server)  # type: ignore[no-untyped-call]
    port = server.add_secure_port(f"{HOST}:0", secured(authority, issued))
    await server.start()
    try:
        where = f"{HOST}:{port}"
        known = await ask_stores([where], 20, Credentials(tls, token))
        assert getattr(known[where], "replica", known[where]) == "Bearer s3cret"
        unknown = (await ask_stores([where], 20))[where]
        assert isinstance(unknown, str)
        assert unknown.startswith("UNAVAILABLE: ")
    finally:
        await server.stop(None)
