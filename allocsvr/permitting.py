"""What within a request is not its caller's to ask for: kinds, forwarding, uids.

Whether the rpc itself is has been decided before (svrprocess/guarding.py). `own` is None where
nobody asks who calls, and then everything is permitted.
"""

from collections.abc import Sequence

import numpy as np

from allocsvr.messages import Refused
from seqsvr.sections import MAX_BATCH
from svrprocess.guarding import Badge, Denied
from svrprocess.roles import ADMIN_ROUTE, FORWARDED, NEXT, Caller, Rule


def outside(
    own: Badge | None, uids: Sequence[int], *, forwarded: bool, for_peers: bool
) -> Sequence[int]:
    """Indexes of the entries that are refused; the others are to be served.

    for_peers: it came to the port for other nodes. Raises Refused where all of it is refused.
    """
    if own is None:
        return ()
    if forwarded:
        if not for_peers:
            raise refused(own, Denied("PERMISSION_DENIED", "the peer port takes what is forwarded"))
        _check(own, FORWARDED, "forwarded requests")
    try:
        caller = own.caller
    except Denied as denied:
        raise refused(own, denied) from None
    if not caller.uids or len(uids) > MAX_BATCH:  # which is refused for that
        return ()
    found = outside_of(caller, uids)
    if found:
        own.count("PERMISSION_DENIED", len(found))
    return found


def outside_of(caller: Caller, uids: Sequence[int], few: int = 32) -> Sequence[int]:
    """Indexes of those that it may not ask for. few: that many are looked at one by one."""
    if not caller.uids:
        return ()
    if len(uids) < few:
        return [index for index, uid in enumerate(uids) if not caller.covers(uid)]
    edges, asked = np.array(caller.edges, np.uint64), np.array(uids, np.uint64)
    passed = np.searchsorted(edges, asked, side="right")
    outside: list[int] = np.flatnonzero(passed % 2 == 0).tolist()
    return outside


def check_next(own: Badge | None) -> None:
    """Raise Refused where a Session's caller may not have numbers."""
    if own is not None:
        _check(own, NEXT, "numbers")


def check_admin(own: Badge | None) -> None:
    """Raise Refused where the caller may not have administrative routes."""
    if own is not None:
        _check(own, ADMIN_ROUTE, "administrative routes")


def refused(own: Badge, denied: Denied) -> Refused:
    """The refusal of a whole request, counted."""
    own.count(denied.reason)
    return Refused(denied.reason, str(denied))


def _check(own: Badge, rule: Rule, what: str) -> None:
    try:
        own.check(rule, what)
    except Denied as denied:
        raise refused(own, denied) from None
