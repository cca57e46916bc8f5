"""Who may do what: the roles, the callers that have them, and every rpc with those it takes. Pure.

A port knows each rpc that it serves by a Rule. What stands in no table is nobody's, so a new rpc
is refused until somebody has decided who it is for. None of this is asked where neither client
certificates nor an auth file are in use.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from seqsvr.v1 import alloc_pb2, store_pb2

MAX_UID: Final = 2**63 - 1
UidRange = tuple[int, int]


class Role(StrEnum):
    """reader: current numbers and routes; allocator: a reader who takes numbers; operator: a reader
    who changes a cluster; internal: the servers among themselves.
    """

    READER = "reader"
    ALLOCATOR = "allocator"
    OPERATOR = "operator"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Caller:
    """An identity. There is one of these for each, as long as the same rights are in force.

    name: printable, no longer than MAX_NAME; uids: ranges (first, last) by rising first, which
    neither overlap nor touch, empty: all; numbers_per_s, requests_per_s: above 0, None: as the
    server's defaults are.
    """

    name: str
    roles: frozenset[Role]
    uids: tuple[UidRange, ...] = ()
    numbers_per_s: float | None = None
    requests_per_s: float | None = None
    edges: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """edges: where its uids begin and end, in turn: what has passed an odd number is its."""
        edges = [edge for first, last in self.uids for edge in (first, last + 1)]
        object.__setattr__(self, "edges", tuple(edges))

    def covers(self, uid: int) -> bool:
        """Whether it may have to do with this uid."""
        return not self.uids or bisect_right(self.edges, uid) % 2 == 1


def merged(ranges: Iterable[UidRange]) -> tuple[UidRange, ...]:
    """The same uids as Caller.uids has them."""
    found: list[UidRange] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return tuple(found)


# -- rules -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rule:
    """roles: whoever has one of these; anybody: also who is nobody; identified: also who has no
    role, as long as it is somebody.
    """

    roles: frozenset[Role] = frozenset()
    anybody: bool = False
    identified: bool = False

    def refuses(self, caller: Caller | None) -> str | None:
        """The reason (of seqsvr.v1.Reason) for which a call is refused; None: it is not."""
        if self.anybody:
            return None
        if caller is None:
            return "UNAUTHENTICATED"
        if self.identified or not self.roles.isdisjoint(caller.roles):
            return None
        return "PERMISSION_DENIED"

    def __str__(self) -> str:
        """Whom it is for, in a sentence."""
        if self.anybody:
            return "anybody"
        if self.identified:
            return "any identity"
        return ", ".join(role for role in Role if role in self.roles) or "nobody at this port"


def only(*roles: Role) -> Rule:
    """A rule for these roles."""
    return Rule(frozenset(roles))


Rules = Mapping[str, Rule]
"""By the rpc's whole path, /package.Service/Method."""

NOBODY = Rule()
ANYBODY = Rule(anybody=True)
IDENTIFIED = Rule(identified=True)
_READERS = only(Role.READER, Role.ALLOCATOR, Role.OPERATOR)
_ALLOCATORS = only(Role.ALLOCATOR)
_OPERATORS = only(Role.OPERATOR)
_SERVERS = only(Role.INTERNAL)
_BOTH = only(Role.OPERATOR, Role.INTERNAL)

ALLOC: Final = alloc_pb2.DESCRIPTOR.services_by_name["Alloc"].full_name
STORE: Final = store_pb2.DESCRIPTOR.services_by_name["Store"].full_name

# What is within an rpc and not for all who may call it.
NEXT = _ALLOCATORS
"""A request for numbers in a Session."""
ADMIN_ROUTE = _OPERATORS
"""GetRoute with admin."""
FORWARDED = _SERVERS
"""Any request that says that it was forwarded."""


def _rules(service: str, rules: Mapping[str, Rule]) -> dict[str, Rule]:
    return {f"/{service}/{method}": rule for method, rule in rules.items()}


EVERYWHERE: Rules = {
    **_rules("grpc.health.v1.Health", {"Check": ANYBODY, "List": ANYBODY, "Watch": ANYBODY}),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": IDENTIFIED,
}
"""Also all that the arbiter's port has."""

CLIENT_PORT: Rules = {
    **EVERYWHERE,
    **_rules(
        ALLOC,
        {
            "GetSeq": _ALLOCATORS,
            "GetCurSeq": _READERS,
            "BatchGetSeq": _ALLOCATORS,
            "BatchGetCurSeq": _READERS,
            "AdvanceSeq": NOBODY,  # the peer port takes it
            "Session": _READERS,
            "GetRoute": _READERS,
        },
    ),
}
"""Of AllocSvr, for message services."""

PEER_PORT: Rules = {
    **EVERYWHERE,
    **_rules(
        ALLOC,
        {
            "GetSeq": NOBODY,
            "GetCurSeq": NOBODY,
            "BatchGetSeq": _SERVERS,
            "BatchGetCurSeq": _SERVERS,
            "AdvanceSeq": _BOTH,
            "Session": NOBODY,
            "GetRoute": _OPERATORS,
        },
    ),
}
"""Of AllocSvr, for other nodes and for operators."""

STORE_PORT: Rules = {
    **EVERYWHERE,
    **_rules(
        STORE,
        {
            "Fence": _SERVERS,
            "Raise": _SERVERS,
            "Release": _SERVERS,
            "Renew": _SERVERS,
            "Seal": _SERVERS,
            "Info": _BOTH,
            "Scan": _BOTH,
            "Digest": _BOTH,
            "PutAtLeast": _BOTH,  # seqctl restore
            "Adopt": _BOTH,  # seqctl restore
        },
    ),
}
"""Of StoreSvr."""
