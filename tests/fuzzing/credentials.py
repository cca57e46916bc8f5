"""Targets: what decides who a caller is: auth files, tokens, names in certificates, their files."""

import base64
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from certificates import Authority
from seqctl.certs_folder import read_pair
from seqctl.certs_shown import shown as shown_file
from seqctl.failures import CommandFailed
from seqsvr.credentials import Credentials
from seqsvr.tls import Tls
from svrprocess import rights
from svrprocess.certificates import Certificate
from svrprocess.failures import WrongUsage
from svrprocess.identities import MAX_NAME, Identities, Identity, shown
from svrprocess.roles import Caller, Role
from svrprocess.secret_files import read_secret

_FOLDER = TemporaryDirectory(prefix="fuzzing-")
_TOKEN = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_ENTRY = f"""[[identity]]
name = "billing"
token_sha256 = ["{_TOKEN}"]
san = "spiffe://shop/billing"
roles = ["allocator", "reader"]
uids = ["0-999", "5000"]
numbers_per_s = 10000
requests_per_s = 0.5
"""


def auth_seeds() -> list[bytes]:
    other = '[[identity]]\nname="b"\nsan=["Host.Example"]\nroles=["operator"]\n'
    odd = ("numbers_per_s = nan", "numbers_per_s = inf", "requests_per_s = 0x" + "f" * 9_000)
    return [
        _ENTRY.encode(),
        (_ENTRY + other).encode(),
        b"",
        *((other + line + "\n").encode() for line in odd),
        b'[[identity]]\nname="a"\nsan="a"\nroles=["reader"]\nuids=["' + b"9" * 5_000 + b'"]\n',
    ]


def auth(data: bytes) -> None:
    """What is accepted gives nobody more than it says."""
    path = Path(_FOLDER.name) / "auth"
    path.touch(0o600)
    path.write_bytes(data)
    try:
        found = rights.read(str(path))
    except WrongUsage as error:
        assert len(str(error)) < 10_000
        return
    for name, caller in found.callers.items():
        assert caller.name == name and name.isprintable() and caller.roles
        assert found.caller(shown({}, ())) is None


def callers_seeds() -> list[bytes]:
    """Lines: a kind, and a value."""
    return [
        b"authorization Bearer abc",
        b"authorization bearer " + b"x" * 5_000,
        b"authorization Basic abc\nauthorization Bearer abc",
        b"peer_uri seqsvr://role/operator\npeer_dns host\nx509_common_name me",
        b"peer_uri spiffe://x/y\npeer_uri seqsvr://role/reader",
        b"peer_dns a\x1b[2J\x00\xff\nx509_common_name " + b"n" * 500,
    ]


_KNOWN = Identities([Identity(Caller("known", frozenset({Role.READER})), (b"\0" * 32,), ("host",))])
_ROLES = {f"seqsvr://role/{role}".encode() for role in Role}


def callers(data: bytes) -> None:
    """Nobody is an operator who does not show that URI; names are fit for logs and labels."""
    auth_context: dict[str, list[bytes]] = {"x509_pem_cert": [b"x"]}
    metadata: list[tuple[str, str | bytes]] = []
    for line in data.split(b"\n"):
        kind, _, value = line.partition(b" ")
        if kind == b"authorization":
            text: str | bytes = value.decode("latin-1") if len(value) % 7 else value
            metadata.append(("authorization", text))
        else:
            auth_context.setdefault(kind.decode("latin-1"), []).append(value)
    context: Mapping[str, list[bytes]] = auth_context
    found = _KNOWN.caller(shown(context, metadata))
    if found is None:
        return
    assert found.name.isprintable() and 1 <= len(found.name) <= MAX_NAME
    named = {uri for uri in auth_context.get("peer_uri", ()) if uri in _ROLES}
    assert found.name == "known" or len(found.roles) <= len(named)


@cache
def _issued() -> tuple[bytes, bytes, bytes]:
    """A certificate, its key and its authority, in PEM."""
    authority = Authority(Path(_FOLDER.name) / "authority")
    made = authority.issue("one")
    ca = (Path(_FOLDER.name) / "authority" / "ca.crt").read_bytes()
    return Path(made.crt).read_bytes(), Path(made.key).read_bytes(), ca


def certificate_seeds() -> list[bytes]:
    """First byte: which file the rest is; from 3 on as DER, which is put into PEM."""
    files = _issued()
    bare = [base64.b64decode(b"".join(file.split(b"\n")[1:-2])) for file in files]
    return [
        *(bytes((at,)) + file for at, file in enumerate(files)),
        *(bytes((at + 3,)) + file for at, file in enumerate(bare)),
        b"\0" + files[0] + files[2],
    ]


_LABELS = (b"CERTIFICATE", b"PRIVATE KEY", b"CERTIFICATE")


def certificates(data: bytes) -> None:
    """As a server, a client and seqctl read them."""
    at, body = (data[0] % 6, data[1:]) if data else (0, b"")
    if at >= 3:
        at -= 3
        text = base64.encodebytes(body)
        begin, end = (b"-----%s %s-----\n" % (word, _LABELS[at]) for word in (b"BEGIN", b"END"))
        body = begin + text + end
    folder = Path(_FOLDER.name)
    names = [str(folder / name) for name in ("x.crt", "x.key", "ca.crt")]
    for number, (name, good) in enumerate(zip(names, _issued(), strict=True)):
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(file, "wb") as opened:
            opened.write(body if number == at else good)
    _read(names, folder)


def _read(names: list[str], folder: Path) -> None:
    cert, key, ca = names
    for read in (
        lambda: Certificate("client", cert, key, ca),
        lambda: shown_file(Path(cert), datetime.now(UTC)),
        lambda: read_pair(folder, "x"),
        lambda: read_secret(key, "--key-file"),
    ):
        try:
            read()
        except CommandFailed as error:
            assert len(str(error)) < 10_000
    try:
        Credentials(Tls(ca=ca, cert=cert, key=key))
    except (ValueError, OSError) as error:
        assert len(str(error)) < 10_000
