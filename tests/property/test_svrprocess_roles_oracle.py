"""Who may do what, beside a reader of the same rules that knows no short cuts."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from allocsvr.permitting import outside_of
from svrprocess import auth_file, roles
from svrprocess.identities import (
    MAX_NAME,
    MAX_TOKEN_BYTES,
    NOTHING,
    Identities,
    Identity,
    Shown,
    digest,
    printable,
    shown,
)
from svrprocess.roles import MAX_UID, Caller, Role, Rule, merged

ROLES = st.frozensets(st.sampled_from(Role))
FEW = st.integers(0, 12)
RANGES = st.lists(st.tuples(FEW, FEW).map(lambda ends: (min(ends), max(ends))), max_size=5)
RULES = [
    rule
    for port in (roles.CLIENT_PORT, roles.PEER_PORT, roles.STORE_PORT)
    for rule in (*port.values(), roles.NEXT, roles.ADMIN_ROUTE, roles.FORWARDED)
]


# -- uids and roles --------------------------------------------------------------------------------


def uids_of(ranges: Iterable[tuple[int, int]]) -> set[int]:
    return {uid for first, last in ranges for uid in range(first, last + 1)}


@given(RANGES)
def test_merged_ranges_hold_the_same_uids_and_are_apart(ranges: list[tuple[int, int]]) -> None:
    found = merged(ranges)
    assert uids_of(found) == uids_of(ranges)
    assert all(one[1] + 1 < other[0] for one, other in pairwise(found))


FAR = [13, MAX_UID, MAX_UID + 1, 2**64 - 1]


@given(RANGES, st.lists(FEW | st.sampled_from(FAR), max_size=8), st.booleans())
def test_what_lies_outside_is_what_no_range_holds(
    ranges: list[tuple[int, int]], uids: list[int], to_the_end: bool
) -> None:
    far = {13, MAX_UID} if to_the_end else set()
    spans = [*ranges, *([(13, MAX_UID)] if to_the_end else [])]
    caller = Caller("a", frozenset(), merged(spans))
    inside = uids_of(ranges) | far if spans else {*range(13), *FAR}
    wanted = [i for i, uid in enumerate(uids) if uid not in inside]
    assert [i for i, uid in enumerate(uids) if not caller.covers(uid)] == wanted
    for few in (0, len(uids) + 1):  # all at once, and one by one
        assert list(outside_of(caller, uids, few=few)) == wanted


@pytest.mark.parametrize("rule", sorted(set(RULES), key=str), ids=str)
@given(has=st.none() | ROLES)
def test_a_rule_is_for_those_whom_it_names(rule: Rule, has: frozenset[Role] | None) -> None:
    reason = rule.refuses(None if has is None else Caller("a", has))
    if rule.anybody:
        assert reason is None
    elif has is None:
        assert reason == "UNAUTHENTICATED"
    elif rule.identified or any(role in rule.roles for role in has):
        assert reason is None
    else:
        assert reason == "PERMISSION_DENIED"


# -- identities ------------------------------------------------------------------------------------

TOKENS = ["t0", "t1", "t2"]
HOSTS = ["a.example", "B.example"]
URIS = ["spiffe://x/1", "urn:2", "seqsvr://role/reader", "seqsvr://role/king"]
# Each kind of a name is also tried where the other one stands.
NAMES = st.lists(st.sampled_from([*HOSTS, *URIS]).map(str.encode), max_size=3).map(tuple)
SHOWN = st.builds(
    Shown,
    st.none() | st.sampled_from([b"", *map(digest, TOKENS)]),
    NAMES,
    NAMES,
    st.lists(st.sampled_from([b"", b"common\n", b"\xff", b"id0"]), max_size=1).map(tuple),
)


@st.composite
def known(draw: st.DrawFn) -> list[Identity]:
    """Each token and each name is at most one identity's."""
    found = []
    tokens, sans = list(TOKENS), ["a.example", "b.example", *URIS[:2]]
    for number in range(draw(st.integers(0, 3))):
        mine = [digest(tokens.pop()) for _ in range(draw(st.integers(0, len(tokens))))]
        names = [sans.pop() for _ in range(draw(st.integers(0, len(sans))))]
        caller = Caller(f"id{number}", draw(ROLES), merged(draw(RANGES)))
        found.append(Identity(caller, tuple(mine), tuple(names)))
    return found


def looked_for(known: list[Identity], what: Shown) -> Caller | None:
    if what.token is not None:
        return next((one.caller for one in known if what.token in one.tokens), None)
    if not (what.uris or what.dns or what.common):
        return None
    uris = [uri.decode() for uri in what.uris if b":" in uri]
    hosts = [host.decode().lower() for host in what.dns if b":" not in host]
    for name in uris + hosts:
        for one in known:
            if name in one.sans:
                return one.caller
    has = frozenset(role for role in Role if f"seqsvr://role/{role}".encode() in what.uris)
    plain = [uri for uri in uris if not uri.startswith("seqsvr://")]
    told = {b"common\n": "common\\n", b"\xff": "\\udcff", b"id0": "id0"}
    name = [*plain, *hosts, *(told[c] for c in what.common if c), *uris, "unnamed"][0]
    taken = any(one.caller.name == name for one in known)
    return Caller(f"{name} (certificate)" if taken else name, has)


@settings(max_examples=300)
@given(known(), st.lists(SHOWN, max_size=6))
def test_a_caller_is_found_as_by_looking_through_all_of_them(
    entries: list[Identity], calls: list[Shown]
) -> None:
    identities = Identities(entries)
    for what in calls:
        found = identities.caller(what)
        assert found == looked_for(entries, what)
        assert found is identities.caller(what), "one object for each identity"


@given(NAMES, NAMES)
def test_a_role_comes_from_a_uri_and_never_from_another_kind_of_name(
    uris: tuple[bytes, ...], others: tuple[bytes, ...]
) -> None:
    caller = Identities().caller(Shown(None, uris, others, (b"seqsvr://role/internal",)))
    assert caller is not None
    assert caller.roles == ({Role.READER} if b"seqsvr://role/reader" in uris else set())


NAMED = st.one_of(st.text(), st.text("\\n\n", max_size=3), st.text("xy", min_size=127))


@given(NAMED, NAMED)
@example("\n", "\\n")
def test_a_name_is_shown_on_one_line_and_no_two_alike(one: str, other: str) -> None:
    assert printable(one).isprintable()
    assert len(printable(one)) <= MAX_NAME
    assert (printable(one) == printable(other)) == (one == other)


# -- what is sent ----------------------------------------------------------------------------------

VALUES = st.one_of(
    st.sampled_from(["Bearer t0", "bearer t0", "BEARER t1", "Bearer  t0", "Basic t0", "Bearer"]),
    st.sampled_from(["", "Bearer ", "t0", "Bearer t0 ", "Bearer t0,Bearer t1", "Bearer \u00fc"]),
    st.sampled_from(["Bearer " + "x" * MAX_TOKEN_BYTES, "Bearer x" + "x" * MAX_TOKEN_BYTES]),
    st.text(max_size=4),
    st.binary(max_size=4),
)
SENT = st.lists(st.tuples(st.sampled_from(["authorization", "x", "Authorization"]), VALUES))
CERTIFIED = {"x509_pem_cert": [b"pem"], "peer_uri": [b"spiffe://x/1"], "x509_common_name": [b"c"]}


def token_of(values: list[str | bytes]) -> str | None:
    """The token, where exactly one is sent and it is one."""
    if len(values) != 1 or not isinstance(values[0], str):
        return None
    words = values[0].split(" ")
    if len(words) != 2 or words[0].lower() != "bearer":
        return None
    good = 0 < len(words[1]) <= MAX_TOKEN_BYTES and all(33 <= ord(c) <= 126 for c in words[1])
    return words[1] if good else None


@settings(max_examples=300)
@given(SENT, st.sampled_from([{}, CERTIFIED, {"peer_uri": [b"spiffe://x/1"]}]))
def test_a_token_that_is_sent_decides_whatever_else_is_shown(
    sent: list[tuple[str, str | bytes]], auth: Mapping[str, list[bytes]]
) -> None:
    found = shown(auth, sent)
    values = [value for key, value in sent if key == "authorization"]
    token = token_of(values)
    if values:
        expected = b"" if token is None else hashlib.sha256(token.encode()).digest()
        assert found == Shown(expected)
        assert Identities().caller(found) is None
    elif auth is CERTIFIED:
        assert found == Shown(None, (b"spiffe://x/1",), (), (b"c",))
    else:
        assert found == NOTHING, "names that nobody has verified are none"


# -- the file --------------------------------------------------------------------------------------

GOOD_WORDS = ["a", "b", "c-1"]
WORDS = st.sampled_from([*GOOD_WORDS, "", "has space", "new\nline", "x" * 129, "\u00fc"])
GOOD_UIDS = ["0-999", "5", "7-7", "3-4"]
UIDS = st.sampled_from([*GOOD_UIDS, "9-1", "-1", "", "1-2-3", f"0-{MAX_UID + 1}", "\u0663"])
GOOD_HASHES = [digest(token).hex() for token in TOKENS]
HASHES = st.sampled_from([*GOOD_HASHES, "", "AB" * 32, "ab"])
GOOD_SANS = ["A.example", "spiffe://x/1"]
SANS = st.sampled_from([*GOOD_SANS, "seqsvr://role/reader", "a b", ""])
RATES = st.sampled_from([1, 2.5, 0, -1, 10**400, float("inf"), float("nan"), True, "1"])


def one_or_more(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str | list[str]]:
    return st.one_of(texts, st.lists(texts, max_size=3))


def several(texts: list[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(texts), min_size=1, max_size=3, unique=True)


ENTRIES = st.fixed_dictionaries(
    {"name": WORDS, "roles": st.lists(st.sampled_from([*map(str, Role), "king"]), max_size=3)},
    optional={
        "token_sha256": one_or_more(HASHES),
        "san": one_or_more(SANS),
        "uids": one_or_more(UIDS),
        "numbers_per_s": RATES,
        "requests_per_s": RATES,
        "role": st.just("reader"),
    },
)
GOOD = {
    "token_sha256": st.sampled_from(GOOD_HASHES) | several(GOOD_HASHES),
    "uids": several(GOOD_UIDS),
    "numbers_per_s": st.sampled_from([1, 2.5]),
    "requests_per_s": st.sampled_from([3, 0.5]),
}
GOOD_ENTRIES = st.fixed_dictionaries(
    {
        "name": st.sampled_from(GOOD_WORDS),
        "roles": several(list(map(str, Role))),
        "san": st.sampled_from(GOOD_SANS),
    },
    optional=GOOD,
)
FILES = st.one_of(
    st.lists(ENTRIES, max_size=2),
    st.lists(GOOD_ENTRIES, max_size=3),
    st.lists(
        GOOD_ENTRIES, max_size=2, unique_by=(lambda e: str(e["name"]), lambda e: str(e["san"]))
    ),
    st.tuples(GOOD_ENTRIES, ENTRIES, st.sampled_from(["name", "uids", "numbers_per_s"])).map(
        lambda drawn: [{**drawn[0], drawn[2]: drawn[1].get(drawn[2], drawn[0].get(drawn[2], 1))}]
    ),
)


def written(entries: list[dict[str, object]]) -> bytes:
    lines = []
    for entry in entries:
        lines.append("[[identity]]")
        for key, value in entry.items():
            lines.append(f"{key} = {toml(value)}")
    return "\n".join(lines).encode()


def toml(value: object) -> str:
    if isinstance(value, float):
        return repr(value)
    return (
        json.dumps(value, ensure_ascii=True)
        if not isinstance(value, list)
        else str("[" + ", ".join(map(toml, value)) + "]")
    )


def listed(value: object) -> list[str]:
    return value if isinstance(value, list) else [str(value)]


def is_sound(entry: dict[str, object]) -> bool:
    """Whether this entry, by itself, is one."""
    tokens, sans = listed(entry.get("token_sha256", [])), listed(entry.get("san", []))
    uids, has = listed(entry.get("uids", [])), listed(entry["roles"])
    rates = [entry[key] for key in ("numbers_per_s", "requests_per_s") if key in entry]
    lists = [tokens, sans, uids, has]
    return (
        entry["name"] in GOOD_WORDS
        and "role" not in entry
        and bool(has and (tokens or sans))
        and all(len(set(one)) == len(one) for one in lists)
        and all(listed(entry[key]) for key in ("token_sha256", "san", "uids") if key in entry)
        and "king" not in has
        and all(len(token) == 64 and token.islower() for token in tokens)
        and all(san in GOOD_SANS for san in sans)
        and all(span in GOOD_UIDS for span in uids)
        and all(rate in (1, 2.5, 3, 0.5) and rate is not True for rate in rates)
    )


def is_sound_together(entries: list[dict[str, object]]) -> bool:
    names = [str(entry["name"]) for entry in entries]
    keys = [
        key
        for entry in entries
        for key in {*listed(entry.get("token_sha256", [])), *listed(entry.get("san", []))}
    ]
    return len(set(names)) == len(names) and len(set(keys)) == len(keys)


@settings(max_examples=400)
@given(FILES)
@example([{"name": "a", "san": "seqsvr://role/reader", "roles": ["reader"]}])
@example([{"name": "a", "san": "A.example", "roles": ["reader", "reader"]}])
@example([{"name": "a", "san": ["A.example", "A.example"], "roles": ["reader"]}])
def test_a_file_is_taken_for_what_it_says_or_refused_as_a_whole(
    entries: list[dict[str, object]],
) -> None:
    raw = written(entries)
    if not all(map(is_sound, entries)) or not is_sound_together(entries):
        with pytest.raises(ValueError, match=r"."):
            auth_file.parse(raw)
        return
    found = auth_file.parse(raw)
    assert list(found.callers) == [entry["name"] for entry in entries]
    for entry in entries:
        caller = found.callers[str(entry["name"])]
        assert caller.roles == {Role(role) for role in listed(entry["roles"])}
        assert caller.numbers_per_s == entry.get("numbers_per_s")
        assert caller.requests_per_s == entry.get("requests_per_s")
        spans = [uids.partition("-") for uids in listed(entry.get("uids", []))]
        assert caller.uids == merged((int(low), int(high or low)) for low, _, high in spans)
        for token in listed(entry.get("token_sha256", [])):
            assert found.caller(Shown(bytes.fromhex(token))) is caller
        for san in listed(entry.get("san", [])):
            kind = Shown(uris=(san.encode(),)) if ":" in san else Shown(dns=(san.encode(),))
            assert found.caller(kind) is caller


@given(
    st.sampled_from(GOOD_WORDS),
    st.sampled_from(TOKENS),
    several([*map(str, Role)]),
    st.lists(st.sampled_from(GOOD_UIDS), unique=True),
)
def test_an_entry_that_is_made_reads_as_what_it_was_made_of(
    name: str, token: str, has: list[str], uids: list[str]
) -> None:
    found = auth_file.parse(auth_file.entry(name, digest(token), has, uids).encode())
    ranges = merged(map(auth_file.uid_range, uids))
    assert found.caller(Shown(digest(token))) == Caller(name, frozenset(map(Role, has)), ranges)


@settings(max_examples=300)
@given(st.one_of(st.binary(), st.text("[]identy =\"\n#{}',.0", max_size=60).map(str.encode)))
def test_whatever_a_file_holds_it_is_read_or_refused(raw: bytes) -> None:
    try:
        auth_file.parse(raw)
    except ValueError as error:
        assert "\n" not in str(error)
