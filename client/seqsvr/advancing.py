"""Raising uids to a floor: one attempt of it, a unary call for each batch to an owner.

Nodes may take such calls at a port of their own. So owners are looked up in a table that is asked
for as an operator's; a node that knows no second port answers with the same as everybody's. What
such a port says of routes is of such ports, too, and none of a session's business: no more is taken
of it than that there is something newer.

Entries come back with the number at which their uid stands, or with a Failure; whether there is
another attempt is decided by the client. An answer under a superseded epoch counts as none
(ROUTE-1). To advance twice changes nothing, so whatever is in doubt may be asked for again.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import grpc

from seqsvr.calls import Advance, Failure, lost, refused
from seqsvr.channels import alloc_stub, details_of, open_channel
from seqsvr.credentials import Credentials
from seqsvr.errors import TABLE, denial, reason_name
from seqsvr.finder import RouteFinder
from seqsvr.routing import ForeignCluster, Router
from seqsvr.sections import MAX_BATCH, SEQ_LIMIT
from seqsvr.v1 import alloc_pb2
from seqsvr.wire import reason_of, table_from_wire

ATTEMPT_S = 2.5
"""Longer than a node waits for its replicas."""

Learn = Callable[[alloc_pb2.RoutingTable], bool]

CLOSED = Failure("CLOSED", "the client was closed")


class Advancing:
    """The calls of one client. learn: as of Session; candidates: as of RouteFinder."""

    def __init__(
        self,
        learn: Learn,
        candidates: Callable[[], Iterable[str]],
        credentials: Credentials,
    ) -> None:
        self._learn = learn
        self._credentials = credentials
        self._ports = Router()
        self._newest = 0  # version of any table seen
        self._finder = RouteFinder(
            candidates,
            lambda: self._ports.version,
            lambda table: self._ports.install(table_from_wire(table)),
            credentials,
            admin=True,
        )
        self._calls: set[asyncio.Task[None]] = set()
        self._closed = False

    async def attempt(self, entries: Sequence[Advance], router: Router) -> None:
        """Ask the owners once; after that each entry has its number or a failure."""
        loop = asyncio.get_running_loop()
        failure = await self._locate(router, entries[0].deadline_s) if entries else None
        if failure is not None:
            self._failed(entries, failure, False)
            return
        batches = _batches(entries, router, self._ports)
        calls = [loop.create_task(self._ask(router, *batch)) for batch in batches]
        self._calls.update(calls)
        try:
            if calls:
                await asyncio.wait(calls)
        finally:
            for call in calls:
                call.cancel()
            self._calls.difference_update(calls)

    async def aclose(self) -> None:
        """End what is outstanding with CLOSED."""
        self._closed = True
        await self._finder.aclose()
        calls = list(self._calls)
        for call in calls:
            call.cancel()
        if calls:
            await asyncio.wait(calls)

    async def _locate(self, router: Router, deadline_s: float) -> Failure | None:
        """Have the table of ports be as new as the other one; an older one is better than none."""
        if self._ports.version >= max(router.version, self._newest):
            return None
        in_time = await self._finder.ask(deadline_s)
        failure = self._finder.failure
        if in_time and failure is not None and not failure.retry:
            return failure
        if self._ports.table is not None:
            return None
        return CLOSED if self._closed else failure or Failure("TIMEOUT", "no node answered in time")

    async def _ask(self, router: Router, owner: str, address: str, entries: list[Advance]) -> None:
        """At `address`, a port of `owner`, by which name callers know it; "": nobody knows yet."""
        learn = self._learn if address == owner else self._noted
        await self._asked(router, address, entries, learn)
        for entry in entries:
            if entry.failure is not None:
                entry.failure = replace(entry.failure, address=owner)

    async def _asked(
        self, router: Router, address: str, entries: list[Advance], learn: Learn
    ) -> None:
        request = alloc_pb2.AdvanceSeqRequest(
            uids=[entry.uid for entry in entries],
            at_least=[entry.at_least for entry in entries],
            max_jump=entries[0].max_jump,
            route_version=router.version,
        )
        left_s = entries[0].deadline_s - asyncio.get_running_loop().time()
        for entry in entries:
            entry.doubt += 1
            entry.failure = CLOSED
        try:
            async with open_channel(address, self._credentials) as channel:
                timeout_s = max(0.0, min(left_s, ATTEMPT_S))
                metadata = self._credentials.metadata()
                advance = alloc_stub(channel).AdvanceSeq
                answer = await advance(request, timeout=timeout_s, metadata=metadata)
        except grpc.RpcError as error:
            self._failed(entries, *_breakage(address, error, learn))
        except asyncio.CancelledError:
            # grpc raises this too where the *server* says CANCELLED.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self._failed(entries, lost(address, "the call was cancelled"), False)
        else:
            self._settle(router, address, entries, answer, learn)

    def _settle(
        self,
        router: Router,
        address: str,
        entries: list[Advance],
        answer: alloc_pb2.AdvanceSeqResponse | None,
        learn: Learn,
    ) -> None:
        epochs = list(answer.epochs) if answer is not None else []
        if answer is None or len(answer.seqs) != len(entries) or len(epochs) > len(entries):
            text = f"{address}: an answer does not fit its request"
            self._failed(entries, refused("INTERNAL", text, address), True)
            return
        foreign = _install(address, answer.table, learn) if answer.HasField("table") else None
        if foreign is not None:
            self._failed(entries, foreign, True)
            return
        failures = {
            error.index: refused(
                reason_name(error.reason), error.text, address, error.retry_after_ms / 1000
            )
            for error in answer.errors
        }
        each = epochs if len(epochs) == len(entries) else (epochs[:1] or [0]) * len(entries)
        for index, (entry, seq, epoch) in enumerate(zip(entries, answer.seqs, each, strict=True)):
            entry.failure = failures.get(index)
            if entry.failure is not None:
                entry.doubt -= 1
            elif not entry.at_least <= seq <= SEQ_LIMIT:
                text = f"{address}: {seq} is no answer to an advance to {entry.at_least}"
                entry.failure = refused("INTERNAL", text, address)
            elif router.observe(entry.section, epoch):
                entry.doubt -= 1
                entry.seq, entry.epoch = seq, epoch
            else:
                text = f"{address}: epoch {epoch} is superseded"
                entry.failure = refused("STALE_EPOCH", text, address)

    @staticmethod
    def _failed(entries: Sequence[Advance], failure: Failure, answered: bool) -> None:
        for entry in entries:
            entry.failure = failure
            entry.doubt -= answered

    def _noted(self, table: alloc_pb2.RoutingTable) -> bool:
        """What there is to learn from a table that is only of ports. Raises ForeignCluster."""
        held = self._ports.table
        if held is not None and table.cluster != held.cluster:
            raise ForeignCluster(
                f"table of cluster {table.cluster!r} offered to a client of another"
            )
        newer = table.version > self._newest
        self._newest = max(table.version, self._newest)
        return newer


def _breakage(address: str, error: grpc.RpcError, learn: Learn) -> tuple[Failure, bool]:
    """Why a call failed, and whether that was its server's word."""
    reason, table = reason_of(error)
    foreign = _install(address, table, learn) if table is not None else None
    if foreign is not None:
        return foreign, True
    text, denied = details_of(error), denial(error)
    if reason in TABLE or denied is not None:
        return refused(denied or reason or "", text, address), True
    code = error.code() if isinstance(error, grpc.aio.AioRpcError) else None
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return lost(address, "a node of a version that cannot advance"), True
    return lost(address, text or "the call failed"), False


def _install(address: str, table: alloc_pb2.RoutingTable, learn: Learn) -> Failure | None:
    try:
        learn(table)
    except ForeignCluster as error:
        return Failure("FOREIGN_CLUSTER", f"{address}: {error}", address)
    except ValueError as error:
        return refused("INTERNAL", f"{address}: {error}", address)
    return None


def _batches(
    entries: Sequence[Advance], router: Router, ports: Router
) -> list[tuple[str, str, list[Advance]]]:
    """By owner and port of it, in pieces; entries without an owner fail."""
    groups: dict[tuple[str, str], list[Advance]] = {}
    for entry in entries:
        address = ports.owner(entry.section)
        if address is None:
            entry.failure = refused("NOT_OWNER", f"section {entry.section} has no owner", "")
        else:
            owner = router.owner(entry.section) or ""
            groups.setdefault((owner, address), []).append(entry)
    return [
        (owner, address, group[at : at + MAX_BATCH])
        for (owner, address), group in groups.items()
        for at in range(0, len(group), MAX_BATCH)
    ]
