"""Who may call what: every rpc of every port, by everybody there may be. `pytest -s` prints it.

The rows are written down here once more, by hand: what they say is what is promised. An rpc that a
port serves and that stands in no row fails the test.
"""

from pathlib import Path

import pytest

from certificates import Authority
from guarded_ports import GuardedPorts, Somebody, answered, entry, guarded, rpcs_of, written
from guarded_ports.callers import bearer
from guarded_ports.walking import Rpc

ROLES = ("reader", "allocator", "operator", "internal")

# port, rpc, and whether a reader, an allocator, an operator, a server (internal) and somebody
# without a role may call it.
ROWS = """
client  Alloc.GetSeq                            .  yes .   .   .
client  Alloc.GetCurSeq                         yes yes yes .   .
client  Alloc.BatchGetSeq                       .  yes .   .   .
client  Alloc.BatchGetCurSeq                    yes yes yes .   .
client  Alloc.AdvanceSeq                        .  .   .   .   .
client  Alloc.Session                           yes yes yes .   .
client  Alloc.GetRoute                          yes yes yes .   .
peer    Alloc.GetSeq                            .  .   .   .   .
peer    Alloc.GetCurSeq                         .  .   .   .   .
peer    Alloc.BatchGetSeq                       .  .   .   yes .
peer    Alloc.BatchGetCurSeq                    .  .   .   yes .
peer    Alloc.AdvanceSeq                        .  .   yes yes .
peer    Alloc.Session                           .  .   .   .   .
peer    Alloc.GetRoute                          .  .   yes .   .
store   Store.Fence                             .  .   .   yes .
store   Store.Raise                             .  .   .   yes .
store   Store.Release                           .  .   .   yes .
store   Store.Renew                             .  .   .   yes .
store   Store.Seal                              .  .   .   yes .
store   Store.Scan                              .  .   yes yes .
store   Store.Digest                            .  .   yes yes .
store   Store.PutAtLeast                        .  .   yes yes .
store   Store.Info                              .  .   yes yes .
store   Store.Adopt                             .  .   yes yes .
every   ServerReflection.ServerReflectionInfo   yes yes yes yes yes
"""
OPEN = {"Health.Check": "yes", "Health.List": "unknown", "Health.Watch": "yes"}
PORTS = ("client", "peer", "store", "arbiter")


def expected() -> dict[tuple[str, str], dict[str, str]]:
    """(port, rpc) -> role -> the word for it."""
    found = {}
    for line in ROWS.split("\n"):
        if line:
            port, rpc, *words = line.split()
            row = dict(zip((*ROLES, "none"), words, strict=True))
            meant = {role: "yes" if word == "yes" else "no" for role, word in row.items()}
            for each in PORTS if port == "every" else (port,):
                found[each, rpc] = meant
    for port in PORTS:
        for rpc, word in OPEN.items():
            found[port, rpc] = dict.fromkeys((*ROLES, "none"), word)
    return found


class Table:
    """What is found, beside what was expected."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.cells: dict[tuple[str, str], dict[str, str]] = {}
        self.wrong: list[str] = []

    def note(self, port: str, rpc: str, who: str, found: str, wanted: str) -> None:
        self.cells.setdefault((port, rpc), {})[who] = found
        if found != wanted:
            self.wrong.append(f"{port} {rpc}: {who} met {found}, not {wanted}")

    def show(self) -> None:
        names = list(next(iter(self.cells.values())))
        print(f"\n{self.title}")
        print(" " * 46 + "  ".join(names))
        for (port, rpc), row in self.cells.items():
            words = "  ".join(f"{row[name]:{len(name)}}" for name in names)
            print(f"{port:8}{rpc:38}{words}")


def wanted(who: Somebody, rpc: str, row: dict[str, str]) -> str:
    """By the name of a column: its last word is what it comes to."""
    what = who.name.rpartition(" ")[2]
    if what in row:
        return row[what]
    if what == "unreachable":
        return what
    return OPEN.get(rpc, "nobody")


async def walked(
    ports: GuardedPorts, title: str, callers: list[Somebody], knows: Somebody
) -> Table:
    """Every rpc by every caller. knows: somebody who may ask the ports what they serve."""
    table, rows = Table(title), expected()
    seen = set()
    for port in PORTS:
        async with ports.channel(port, knows) as channel:
            rpcs = await rpcs_of(channel, knows.metadata)
        seen |= {(port, rpc.short) for rpc in rpcs}
        for who in callers:
            async with ports.channel(port, who) as channel:
                for rpc in rpcs:
                    row = rows.get((port, rpc.short), dict.fromkeys((*ROLES, "none"), "a row"))
                    found = await answered(channel, rpc, who.metadata)
                    table.note(port, rpc.short, who.name, found.word, wanted(who, rpc.short, row))
    table.show()
    assert seen == set(rows), f"without a row, or served by nobody: {seen ^ set(rows)}"
    return table


UNKNOWN = Rpc("/seqsvr.v1.Alloc/Nothing", False, False)


async def test_every_rpc_is_for_those_whose_certificate_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca, foreign = Authority(tmp_path / "ca"), Authority(tmp_path / "foreign")
    ours = ca.issue("server", dns=["localhost"], ips=["127.0.0.1"])
    by_role = {role: ca.issue(role, uris=[f"seqsvr://role/{role}"]) for role in ROLES}
    stranger = ca.issue("stranger", dns=["seqsvr.role.internal"], uris=["seqsvr://role/king"])
    internal = ["seqsvr://role/internal"]
    auth = written(
        tmp_path / "auth.toml",
        *(entry(f"token-{role}", role) for role in ROLES),
        '[[identity]]\nname = "named"\nsan = "spiffe://shop/orders"\nroles = ["operator"]\n',
    )
    named = ca.issue("named", uris=["spiffe://shop/orders", "seqsvr://role/internal"])
    with_certificate = Somebody("", ca.crt, by_role["internal"])
    callers = [
        *(Somebody(role, ca.crt, by_role[role]) for role in ROLES),
        Somebody("cert of none", ca.crt, stranger),
        Somebody("cert in file: operator", ca.crt, named),
        # A token decides, whatever the certificate is.
        *(
            Somebody(f"token of {role}", ca.crt, by_role["internal"], bearer(f"token-{role}"))
            for role in ("reader", "operator")
        ),
        Somebody("token of nobody", ca.crt, by_role["internal"], bearer("guessed")),
        Somebody("no cert: unreachable", ca.crt),
        Somebody("foreign: unreachable", ca.crt, foreign.issue("internal", uris=internal)),
        Somebody("expired: unreachable", ca.crt, ca.issue("old", uris=internal, expired=True)),
        Somebody("plaintext: unreachable"),
    ]
    files = "--cert-file", ours.crt, "--key-file", ours.key, "--trusted-ca-file", ca.crt
    options = [
        *files,
        "--client-cert-auth",
        *(str(part).replace("--", "--peer-") for part in files),
        "--peer-client-cert-auth",
    ]
    async with guarded(tmp_path, monkeypatch, *options, "--auth-file", auth) as ports:
        table = await walked(ports, "over mTLS", callers, with_certificate)
        assert not table.wrong, "\n".join(table.wrong)
        denied = ports.metric("seqsvr_denied_total", rpc="AdvanceSeq", reason="PERMISSION_DENIED")
        assert denied >= 4
        assert ports.metric("seqsvr_denied_total", rpc="Raise", reason="UNAUTHENTICATED") == 1


async def test_every_rpc_is_for_those_whose_token_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    auth = written(tmp_path / "auth.toml", *(entry(f"token-{role}", role) for role in ROLES))
    two = (*bearer("token-internal"), *bearer("token-operator"))
    callers = [
        *(Somebody(role, metadata=bearer(f"token-{role}")) for role in ROLES),
        Somebody("nobody"),
        Somebody("wrong: nobody", metadata=bearer("guessed")),
        Somebody("a hash: nobody", metadata=bearer("ab" * 32)),
        Somebody("two: nobody", metadata=two),
        Somebody("long: nobody", metadata=bearer("x" * 5000)),
        Somebody("basic: nobody", metadata=(("authorization", "Basic token-internal"),)),
        Somebody("empty: nobody", metadata=(("authorization", ""),)),
    ]
    async with guarded(tmp_path, monkeypatch, "--auth-file", auth) as ports:
        table = await walked(ports, "by tokens", callers, callers[0])
        assert not table.wrong, "\n".join(table.wrong)


@pytest.mark.parametrize("metadata", [(), bearer("t")])
async def test_what_nobody_serves_is_unknown_to_everybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metadata: tuple[tuple[str, str], ...]
) -> None:
    auth = written(tmp_path / "auth.toml", entry("t", "reader"))
    async with guarded(tmp_path, monkeypatch, "--auth-file", auth) as ports:
        for port in PORTS:
            async with ports.channel(port, Somebody("x")) as channel:
                assert (await answered(channel, UNKNOWN, metadata)).word == "unknown"


async def test_without_roles_everybody_may_do_everything_at_one_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with guarded(tmp_path, monkeypatch) as ports:
        assert ports.addresses["peer"] == ports.addresses["client"]
        for port in PORTS:
            async with ports.channel(port, Somebody("x")) as channel:
                for rpc in await rpcs_of(channel):
                    assert (await answered(channel, rpc)).word == OPEN.get(rpc.short, "yes"), rpc
