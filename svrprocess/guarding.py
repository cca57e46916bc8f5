"""The guard of a port: finds who calls, once per call, and refuses what its rules do not allow.

It is part of a server only where client certificates or an auth file are in use. Then it stands
before every rpc of the port, those of libraries too, and a service asks `badge()` for the caller.
A stream's rights follow the auth file: its badge always shows the rights in force, and a stream
whose caller may not have it any more is ended.

A method that nobody serves is answered as ever, with UNIMPLEMENTED.
"""

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any, NoReturn

import grpc
from prometheus_client import CollectorRegistry, Counter

from seqsvr.wire import refusal
from svrprocess import ending, incidents
from svrprocess.identities import Identities, Shown, shown
from svrprocess.roles import NOBODY, Caller, Rule, Rules

QUIET_S = 10.0
"""Between two lines in the log about the same rpc, refused for the same reason."""

_log = logging.getLogger(__name__)
_badge: ContextVar["Badge | None"] = ContextVar("badge", default=None)


def badge() -> "Badge | None":
    """Of the call that is being answered; None: nobody asks who calls here."""
    return _badge.get()


class Denied(Exception):
    """A call, or a part of one, is refused. reason: of seqsvr.v1.Reason."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Badge:
    """Who one call is from, for as long as it lasts."""

    __slots__ = ("_caller", "_guard", "_known", "_rule", "_shown", "ended", "rpc")

    def __init__(self, guard: "Guard", rpc: str, rule: Rule, what: Shown) -> None:
        self.rpc = rpc
        self.ended: asyncio.Future[Denied] | None = None
        self._guard = guard
        self._rule = rule
        self._shown = what
        self._known = guard.identities
        self._caller = self._known.caller(what)

    @property
    def caller(self) -> Caller:
        """By the rights in force now. Raises Denied where it is nobody any more."""
        if self._known is not self._guard.identities:
            self._known = self._guard.identities
            self._caller = self._known.caller(self._shown)
        if self._caller is None:
            raise Denied("UNAUTHENTICATED", _NOBODY_KNOWN)
        return self._caller

    def check(self, rule: Rule | None = None, what: str = "") -> None:
        """Raise Denied where the rule, of the rpc itself or of a part of it, does not allow it."""
        rule = self._rule if rule is None else rule
        try:
            found: Caller | None = self.caller
        except Denied:
            found = None
        reason = rule.refuses(found)
        if found is None and reason is not None:
            raise Denied(reason, _NOBODY_KNOWN)
        if found is not None and reason is not None:
            spoken = f"{found.name} has no role for {what or self.rpc}: it takes {rule}"
            raise Denied(reason, spoken)

    def count(self, reason: str, entries: int = 1) -> None:
        """What was refused of the call by others than the guard."""
        self._guard.denied.labels(self.rpc, reason).inc(entries)


_NOBODY_KNOWN = "neither the certificate nor the token, if there is one, is of anybody known here"


class Guard(grpc.aio.ServerInterceptor):
    """Of one port. identities: in force from the start."""

    def __init__(self, rules: Rules, identities: Identities, denied: Counter) -> None:
        self.denied = denied
        self._rules = rules
        self.identities = identities
        self._wrapped: dict[str, tuple[Any, Any]] = {}
        self._open: set[Badge] = set()
        self._said: dict[tuple[str, str], float] = {}

    def install(self, identities: Identities) -> None:
        """Other rights from now on, also for what is under way."""
        self.identities = identities
        for one in tuple(self._open):
            try:
                one.check()
            except Denied as denied:
                if one.ended is not None and not one.ended.done():
                    one.ended.set_result(denied)

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """The handler of a method with the guard before it; as gRPC has it."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        rule = self._rules.get(method, NOBODY)
        if handler is None or rule.anybody:
            return handler
        before = self._wrapped.get(method)
        if before is None or before[0] is not handler:
            before = self._wrapped[method] = (handler, self._guarded(method, rule, handler))
        return before[1]

    def _guarded(self, method: str, rule: Rule, handler: Any) -> Any:
        rpc = method.rpartition("/")[2]
        behaviour = _behaviour(handler)

        async def single(request: Any, context: Any) -> Any:
            await self._admit(rpc, rule, context)
            return await behaviour(request, context)

        async def stream(request: Any, context: Any) -> None:
            own = await self._admit(rpc, rule, context)
            await self._while_allowed(own, behaviour(request, context), context)

        async def parts(request: Any, context: Any) -> AsyncIterator[Any]:
            await self._admit(rpc, rule, context)
            async for part in behaviour(request, context):
                yield part

        if inspect.isasyncgenfunction(behaviour):
            return _like(handler, parts)
        return _like(handler, stream if handler.response_streaming else single)

    async def _admit(self, rpc: str, rule: Rule, context: Any) -> Badge:
        async with incidents.none_leaves(context, rpc):
            what = shown(context.auth_context(), context.invocation_metadata())
            own = Badge(self, rpc, rule, what)
            try:
                own.check()
            except Denied as denied:
                await self._refuse(own, denied, context)
        _badge.set(own)
        return own

    async def _while_allowed(self, own: Badge, work: Awaitable[None], context: Any) -> None:
        """Until it is done, or the caller may not have it any more."""
        own.ended = asyncio.get_running_loop().create_future()
        task = asyncio.ensure_future(work)
        self._open.add(own)
        try:
            await asyncio.wait((task, own.ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._open.discard(own)
            if not task.done():
                task.cancel()
                await asyncio.wait((task,))
        if own.ended.done() and task.cancelled():
            await self._refuse(own, own.ended.result(), context)
        task.result()

    async def _refuse(self, own: Badge, denied: Denied, context: Any) -> NoReturn:
        own.count(denied.reason)
        self._tell(own, denied, context)
        await abort(context, denied)

    def _tell(self, own: Badge, denied: Denied, context: Any) -> None:
        now_s = time.monotonic()
        key = (own.rpc, denied.reason)
        if now_s - self._said.get(key, -QUIET_S) >= QUIET_S:
            self._said[key] = now_s
            text = "event=denied rpc=%s reason=%s peer=%s why=%s"
            _log.warning(text, own.rpc, denied.reason, context.peer(), denied)


def counter(registry: CollectorRegistry) -> Counter:
    """What the guards of a program count, together."""
    return Counter(
        "seqsvr_denied",
        "Calls, and entries of batches, refused for who the caller is.",
        ["rpc", "reason"],
        registry=registry,
    )


async def abort(context: Any, denied: Denied) -> NoReturn:
    """End the call with a rich status."""
    await ending.abort_with(context, refusal(denied.reason, str(denied)))


def _behaviour(handler: Any) -> Any:
    kinds = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
    return next(found for found in (getattr(handler, kind) for kind in kinds) if found)


def _like(handler: Any, behaviour: Any) -> Any:
    kinds = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    make: Any = kinds[handler.request_streaming, handler.response_streaming]
    return make(behaviour, handler.request_deserializer, handler.response_serializer)
