"""Who a call comes from, by what it shows: a bearer token, or a certificate. Pure.

A token that is sent decides, even one that nobody knows; the certificate counts where none is. What
an auth file says of somebody is all that somebody may do; certificates of nobody in the file have
the roles that they name. Only URIs of a certificate name roles: other kinds of names are given out
by other rules, and may look the same.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeVar

from svrprocess.roles import Caller, Role

ROLE_URI = "seqsvr://role/"
MAX_NAME = 128
MAX_TOKEN_BYTES = 4096
_CACHED = 10_000
K = TypeVar("K", bytes, str)
_HEADER = "authorization"
_NO_TOKEN = b""
_TOKEN = re.compile("[!-~]+")
_BY_URI = {f"{ROLE_URI}{role}".encode(): role for role in Role}


class Shown(NamedTuple):
    """What one call shows of who makes it.

    token: SHA-256 of it; empty: something that can be no token, or more than one; None: none was
    sent. The rest is of the certificate: subject alternative names by their kind, common names.
    """

    token: bytes | None = None
    uris: tuple[bytes, ...] = ()
    dns: tuple[bytes, ...] = ()
    common: tuple[bytes, ...] = ()


NOTHING = Shown()


def shown(
    auth: Mapping[str, Iterable[bytes]], metadata: Iterable[tuple[str, str | bytes]]
) -> Shown:
    """auth: as gRPC gives it for a connection, of a certificate that was verified, if any."""
    token = _token([value for key, value in metadata if key == _HEADER])
    if token is not None:
        return Shown(token)
    if "x509_pem_cert" not in auth:
        return NOTHING
    names = (tuple(auth.get(key, ())) for key in ("peer_uri", "peer_dns", "x509_common_name"))
    return Shown(None, *names)


def digest(token: str) -> bytes:
    """Of a token, as it is looked up and kept."""
    return hashlib.sha256(token.encode("ascii")).digest()


def is_token(text: str) -> bool:
    """Whether it can be sent as one: printable ASCII without spaces, within MAX_TOKEN_BYTES."""
    return 1 <= len(text) <= MAX_TOKEN_BYTES and _TOKEN.fullmatch(text) is not None


class Identity(NamedTuple):
    """What an auth file says of one caller: who it is, and the tokens and names that are its."""

    caller: Caller
    tokens: tuple[bytes, ...] = ()
    sans: tuple[str, ...] = ()


class Identities:
    """All that are known, by what they show. Never changed.

    known: by their order in the file. Raises ValueError where a token or a name is two identities'.
    """

    def __init__(self, known: Iterable[Identity] = ()) -> None:
        self.callers: dict[str, Caller] = {}
        self.known = tuple(known)
        self._by_token: dict[bytes, Caller] = {}
        self._by_san: dict[str, Caller] = {}
        self._cached: dict[Shown, Caller] = {}
        for caller, tokens, sans in self.known:
            if caller.name in self.callers:
                raise ValueError(f"{caller.name!r} is the name of two")
            self.callers[caller.name] = caller
            for token in tokens:
                _give(self._by_token, token, caller, "a token")
            for san in sans:
                _give(self._by_san, san, caller, f"san {san!r}")

    @property
    def has_tokens(self) -> bool:
        return bool(self._by_token)

    def caller(self, what: Shown) -> Caller | None:
        """Who shows this; None: nobody that is known."""
        if what.token is not None:
            return self._by_token.get(what.token)
        if what == NOTHING:
            return None
        found = self._cached.get(what)
        if found is None:
            if len(self._cached) >= _CACHED:
                self._cached.clear()
            found = self._cached[what] = self._certified(what)
        return found

    def _certified(self, what: Shown) -> Caller:
        # The kinds stay apart: an URI holds a colon, a name of a host none.
        uris = [name for name in map(_text, what.uris) if ":" in name]
        hosts = [name.lower() for name in map(_text, what.dns) if ":" not in name]
        for name in (*uris, *hosts):
            if name in self._by_san:
                return self._by_san[name]
        roles = frozenset(_BY_URI[uri] for uri in what.uris if uri in _BY_URI)
        own = [name for name in uris if not name.startswith("seqsvr://")]
        names = (*own, *hosts, *map(_text, what.common), *uris, "unnamed")
        name = printable(next(name for name in names if name))
        # Else the limits of one in the file would be its, too; no name in a file has a space.
        return Caller(printable(f"{name} (certificate)") if name in self.callers else name, roles)


def printable(name: str) -> str:
    """What logs and metrics may show of a name from outside; two names stay two."""
    whole = "".join(
        c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode() for c in name
    )
    if len(whole) <= MAX_NAME:
        return whole
    told_apart = hashlib.sha256(whole.encode()).hexdigest()[:16]
    return f"{whole[: MAX_NAME - 17]}~{told_apart}"


def _give(table: dict[K, Caller], key: K, caller: Caller, what: str) -> None:
    other = table.setdefault(key, caller)
    if other is not caller:
        raise ValueError(f"{what} is of both {other.name!r} and {caller.name!r}")


def _token(sent: list[str | bytes]) -> bytes | None:
    if not sent:
        return None
    value = sent[0]
    if len(sent) > 1 or not isinstance(value, str):
        return _NO_TOKEN
    scheme, _, token = value.partition(" ")
    if scheme.lower() != "bearer" or not is_token(token):
        return _NO_TOKEN
    return digest(token)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
