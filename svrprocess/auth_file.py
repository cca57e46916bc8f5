"""The auth file: identities with their roles, in TOML. Pure: text in, Identities out.

    [[identity]]
    name = "billing"                # in logs, metrics and limits
    token_sha256 = "9f86d0..."      # or a list: the old one and the new one, while both are in use
    san = "spiffe://shop/billing"   # or a list: of certificates, a URI or the name of a host
    roles = ["allocator"]
    uids = ["0-999", "5000"]        # all where absent
    numbers_per_s = 10000           # the server's defaults where absent
    requests_per_s = 100

It is read strictly, as everything is that decides about rights: what is not known here is refused,
with the entry that it stands in.
"""

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from svrprocess.identities import ROLE_URI, Identities, Identity
from svrprocess.roles import MAX_UID, Caller, Role, UidRange, merged

MAX_RATE = 1e15
_KNOWN = ("name", "token_sha256", "san", "roles", "uids", "numbers_per_s", "requests_per_s")
_NAME = re.compile(r"[!-~]{1,128}")
_SHA256 = re.compile("[0-9a-f]{64}")
_SAN = re.compile("[!-~]{1,1024}")
_UIDS = re.compile("([0-9]{1,19})(?:-([0-9]{1,19}))?")
_ROLES = {str(role): role for role in Role}

T = TypeVar("T")


def parse(raw: bytes) -> Identities:
    """Raises ValueError, whose text names the entry."""
    try:
        content = tomllib.loads(raw.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not TOML: {error}") from None
    entries = content.pop("identity", [])
    if content:
        raise ValueError(f"{min(content)!r} is not known; it holds [[identity]] entries only")
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        raise ValueError("identity must be written [[identity]]")
    return Identities([_entry(number, entry) for number, entry in enumerate(entries, 1)])


def entry(name: str, token: bytes, roles: Iterable[str], uids: Iterable[str] = ()) -> str:
    """An identity as the file has it, by the SHA-256 of its token. Nothing is checked."""

    def listed(texts: Iterable[str]) -> str:
        return f"[{', '.join(map(json.dumps, texts))}]"

    ranges = list(uids)
    scope = f"uids = {listed(ranges)}\n" if ranges else ""
    head = f"[[identity]]\nname = {json.dumps(name)}\n"
    return f'{head}token_sha256 = "{token.hex()}"\nroles = {listed(roles)}\n{scope}'


def _entry(number: int, entry: Mapping[str, object]) -> Identity:
    name = entry.get("name")
    spoken = f"identity {number}" + (f" ({name[:128]!r})" if isinstance(name, str) else "")
    try:
        return _identity(entry)
    except ValueError as error:
        raise ValueError(f"{spoken}: {error}") from None


def _identity(entry: Mapping[str, object]) -> Identity:
    unknown = entry.keys() - set(_KNOWN)
    if unknown:
        raise ValueError(f"{min(unknown)!r} is not known; there are {', '.join(_KNOWN)}")
    name = entry.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError("name must be 1..128 characters of ASCII, without spaces")
    tokens = _each(entry, "token_sha256", _token)
    sans = _each(entry, "san", _san)
    if not tokens and not sans:
        raise ValueError("it needs a token_sha256 or a san to be known by")
    roles = frozenset(_each(entry, "roles", _role))
    if not roles:
        raise ValueError(f"it needs roles, out of {', '.join(Role)}")
    caller = Caller(
        name,
        roles,
        _uids(entry),
        _rate(entry, "numbers_per_s"),
        _rate(entry, "requests_per_s"),
    )
    return Identity(caller, tokens, sans)


def _each(entry: Mapping[str, object], key: str, read: Callable[[str], T]) -> tuple[T, ...]:
    """A string, or a list of them; none twice, and at least one where the key is there."""
    value = entry.get(key, [])
    found = [value] if isinstance(value, str) and key != "roles" else value
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ValueError(f"{key} must be a list of strings")
    if key in entry and not found:
        raise ValueError(f"{key} must not be empty")
    if len(set(found)) != len(found):
        raise ValueError(f"{key} has something twice")
    return tuple(read(one) for one in found)


def _token(text: str) -> bytes:
    if not _SHA256.fullmatch(text):
        raise ValueError("token_sha256 must be 64 hex digits, in small letters")
    return bytes.fromhex(text)


def _san(text: str) -> str:
    if not _SAN.fullmatch(text):
        raise ValueError("san must be 1..1024 characters of ASCII, without spaces")
    if text.startswith(ROLE_URI):
        raise ValueError(f"san {text!r} is a role, and nobody in particular")
    return text if ":" in text else text.lower()


def _role(text: str) -> Role:
    if text not in _ROLES:
        raise ValueError(f"role {text!r} is not known; there are {', '.join(Role)}")
    return _ROLES[text]


def _uids(entry: Mapping[str, object]) -> tuple[UidRange, ...]:
    return merged(_each(entry, "uids", uid_range))


def uid_range(text: str) -> UidRange:
    """FIRST-LAST, or one uid. Raises ValueError."""
    found = _UIDS.fullmatch(text)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (1, 0)
    if not first <= last <= MAX_UID:
        raise ValueError(f"uids must be FIRST-LAST within 0-{MAX_UID}, not {text!r}")
    return first, last


def _rate(entry: Mapping[str, object], key: str) -> float | None:
    value = entry.get(key)
    if value is None:
        return None
    # bool is an int to Python.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MAX_RATE:
        raise ValueError(f"{key} must be a number above 0, {MAX_RATE:g} at most")
    return float(value)
