"""Who calls, and what is left of what it may take.

A caller is who its badge says (certificate or token); where nobody is asked for one, it is a host.
Where requests take turns, hosts do by connection: behind one address there may be many.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from allocsvr.buckets import Purse, Rates
from allocsvr.limits import Limits
from svrprocess.guarding import Badge
from svrprocess.roles import Caller

KEPT = 4_096
"""Callers that are remembered, about; those with Sessions always are."""


class Allowance:
    """Of one caller."""

    __slots__ = ("caller", "purse", "sessions")

    def __init__(self, caller: Caller | None, purse: Purse | None) -> None:
        self.caller = caller
        self.purse = purse
        self.sessions = 0


class Allowances:
    """Of all callers of a node."""

    def __init__(self, limits: Limits, now_s: Callable[[], float]) -> None:
        self._default = Rates(limits.requests_per_s, limits.numbers_per_s)
        self._now_s = now_s
        self._known: dict[str, Allowance] = {}

    @property
    def bare(self) -> bool:
        """Whether nothing limits those who have no identity."""
        return self._default == Rates()

    def of(self, own: Badge | None, context: Any) -> Allowance:
        """The caller's; by the rights that are in force now. Raises Denied where it has none."""
        caller = None if own is None else own.caller
        name = host(context.peer()) if caller is None else caller.name
        found = self._known.get(name)
        if found is None:
            if len(self._known) >= KEPT:
                self._forget()
            found = self._known[name] = Allowance(caller, None)
        elif found.caller is caller and found.purse is not None:
            return found
        self._endow(found, caller)
        return found

    def paid(self, allowance: Allowance, numbers: int) -> tuple[str, float]:
        """As Purse.pay."""
        purse = allowance.purse
        return ("", 0.0) if purse is None else purse.pay(numbers, self._now_s())

    def _endow(self, allowance: Allowance, caller: Caller | None) -> None:
        """Other rights; buckets stay as they are where their rates do."""
        rates = self._rates(caller)
        allowance.caller = caller
        if allowance.purse is None or allowance.purse.rates != rates:
            allowance.purse = Purse(rates, self._now_s())

    def _rates(self, caller: Caller | None) -> Rates:
        if caller is None:
            return self._default
        requests, numbers = caller.requests_per_s, caller.numbers_per_s
        return Rates(
            self._default.requests_per_s if requests is None else requests,
            self._default.numbers_per_s if numbers is None else numbers,
        )

    def _forget(self) -> None:
        now_s = self._now_s()
        for name, one in list(self._known.items()):
            if not one.sessions and (one.purse is None or one.purse.is_full(now_s)):
                del self._known[name]


def host(peer: str) -> str:
    """Of what gRPC calls a peer, such as ipv4:10.0.0.1:4711."""
    return peer.rpartition(":")[0] if peer.startswith("ip") else peer


def clock_s() -> float:
    """Of the running loop."""
    return asyncio.get_running_loop().time()
