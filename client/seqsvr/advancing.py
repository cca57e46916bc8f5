"""Raising uids to a floor: one attempt of it, a unary call for each batch to an owner.

Entries come back with the number at which their uid stands, or with a Failure; whether there is
another attempt is decided by the client. An answer under a superseded epoch counts as none
(ROUTE-1). To advance twice changes nothing, so whatever is in doubt may be asked for again.
"""

import asyncio
from collections.abc import Callable, Sequence

import grpc

from seqsvr.calls import Advance, Failure, lost, refused
from seqsvr.channels import alloc_stub, open_channel
from seqsvr.errors import TABLE, reason_name
from seqsvr.routing import ForeignCluster, Router
from seqsvr.sections import MAX_BATCH, SEQ_LIMIT
from seqsvr.v1 import alloc_pb2
from seqsvr.wire import reason_of

ATTEMPT_S = 2.5
"""Longer than a node waits for its replicas."""

CLOSED = Failure("CLOSED", "the client was closed")


class Advancing:
    """The calls of one client. learn: as of Session."""

    def __init__(self, learn: Callable[[alloc_pb2.RoutingTable], bool]) -> None:
        self._learn = learn
        self._calls: set[asyncio.Task[None]] = set()

    async def attempt(self, entries: Sequence[Advance], router: Router) -> None:
        """Ask the owners once; after that each entry has its number or a failure."""
        loop = asyncio.get_running_loop()
        batches = _batches(entries, router)
        calls = [loop.create_task(self._ask(router, at, batch)) for at, batch in batches]
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
        calls = list(self._calls)
        for call in calls:
            call.cancel()
        if calls:
            await asyncio.wait(calls)

    async def _ask(self, router: Router, address: str, entries: list[Advance]) -> None:
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
            async with open_channel(address) as channel:
                timeout_s = max(0.0, min(left_s, ATTEMPT_S))
                answer = await alloc_stub(channel).AdvanceSeq(request, timeout=timeout_s)
        except grpc.RpcError as error:
            self._failed(entries, *self._breakage(address, error))
        except asyncio.CancelledError:
            # grpc raises this too where the *server* says CANCELLED.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self._failed(entries, lost(address, "the call was cancelled"), False)
        else:
            self._settle(router, address, entries, answer)

    def _settle(
        self,
        router: Router,
        address: str,
        entries: list[Advance],
        answer: alloc_pb2.AdvanceSeqResponse | None,
    ) -> None:
        epochs = list(answer.epochs) if answer is not None else []
        if answer is None or len(answer.seqs) != len(entries) or len(epochs) > len(entries):
            text = f"{address}: an answer does not fit its request"
            self._failed(entries, refused("INTERNAL", text, address), True)
            return
        foreign = self._install(address, answer.table) if answer.HasField("table") else None
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
    def _failed(entries: list[Advance], failure: Failure, answered: bool) -> None:
        for entry in entries:
            entry.failure = failure
            entry.doubt -= answered

    def _breakage(self, address: str, error: grpc.RpcError) -> tuple[Failure, bool]:
        """Why a call failed, and whether that was its server's word."""
        reason, table = reason_of(error)
        foreign = self._install(address, table) if table is not None else None
        if foreign is not None:
            return foreign, True
        text = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
        if reason in TABLE:
            return refused(reason, text or "", address), True
        code = error.code() if isinstance(error, grpc.aio.AioRpcError) else None
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return lost(address, "a node of a version that cannot advance"), True
        return lost(address, text or "the call failed"), False

    def _install(self, address: str, table: alloc_pb2.RoutingTable) -> Failure | None:
        try:
            self._learn(table)
        except ForeignCluster as error:
            return Failure("FOREIGN_CLUSTER", f"{address}: {error}", address)
        except ValueError as error:
            return refused("INTERNAL", f"{address}: {error}", address)
        return None


def _batches(entries: Sequence[Advance], router: Router) -> list[tuple[str, list[Advance]]]:
    """By owner, in pieces; entries without an owner fail."""
    groups: dict[str, list[Advance]] = {}
    for entry in entries:
        address = router.owner(entry.section)
        if address is None:
            entry.failure = refused("NOT_OWNER", f"section {entry.section} has no owner", "")
        else:
            groups.setdefault(address, []).append(entry)
    return [
        (address, group[at : at + MAX_BATCH])
        for address, group in groups.items()
        for at in range(0, len(group), MAX_BATCH)
    ]
