"""Asking nodes for the routing table.

One round at a time, however many callers want one. A round asks nodes in random order and starts
the next one as soon as one has failed, or has been silent for `STAGGER_S`; the first table wins.
So one live node is enough, and a hanging one costs `STAGGER_S`. Rounds that bring nothing new
come at growing intervals: an outage makes no storm.
"""

import asyncio
import random
from collections.abc import Callable, Iterable

import grpc
import grpc.aio

from seqsvr.calls import Failure, refused
from seqsvr.channels import alloc_stub, details_of, explained, open_channel
from seqsvr.credentials import Credentials
from seqsvr.errors import DENIALS, TABLE, denial
from seqsvr.pause import Pause
from seqsvr.routing import ForeignCluster
from seqsvr.v1 import alloc_pb2
from seqsvr.wire import reason_of

STAGGER_S = 0.1
ATTEMPT_S = 1.0
FIRST_INTERVAL_S = 0.02
LAST_INTERVAL_S = 0.5


class RouteFinder:
    """See the head of the module.

    candidates: every address worth asking; version: of the table held; learn: installs a table,
    says whether it was new, and raises ForeignCluster or ValueError; admin: ask for the table of
    the ports that take administrative calls.
    """

    def __init__(
        self,
        candidates: Callable[[], Iterable[str]],
        version: Callable[[], int],
        learn: Callable[[alloc_pb2.RoutingTable], bool],
        credentials: Credentials,
        *,
        admin: bool = False,
    ) -> None:
        self._credentials = credentials
        self._admin = admin
        self._candidates = candidates
        self._version = version
        self._learn = learn
        self._round: asyncio.Task[None] | None = None
        self._closed = False
        self._ended = Pause()
        self._interval_s = FIRST_INTERVAL_S
        self._not_before_s = 0.0
        self.failure: Failure | None = None  # of the last round; None: it was answered

    def poke(self) -> None:
        """See to it that a round is on its way."""
        if self._round is None and not self._closed:
            self._round = asyncio.get_running_loop().create_task(self._run())

    async def ask(self, deadline_s: float) -> bool:
        """Wait for the end of a round; False: it did not end by `deadline_s`."""
        self.poke()
        asked = self._round
        if asked is not None:
            await self._ended.until(deadline_s)
        return asked is not self._round

    async def aclose(self) -> None:
        """Stop asking and let everybody go who waits. Idempotent."""
        self._closed = True
        if self._round is not None:
            self._round.cancel()
            await asyncio.wait([self._round])
        self._ended.wake()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        before = self._version()
        try:
            await asyncio.sleep(self._not_before_s - loop.time())
            self._credentials.look()
            self.failure = await self._ask_around()
        finally:
            fresh = self._version() > before
            self._interval_s = (
                FIRST_INTERVAL_S if fresh else min(2 * self._interval_s, LAST_INTERVAL_S)
            )
            self._not_before_s = loop.time() + self._interval_s * random.uniform(0.75, 1.25)
            self._round = None
            self._ended.wake()

    async def _ask_around(self) -> Failure | None:
        """One round; None as soon as one node has answered, else why the last one did not.

        That one does not know us weighs more than that others are away.
        """
        addresses = list(dict.fromkeys(self._candidates()))
        random.shuffle(addresses)
        failure = Failure("UNREACHABLE", "no node to ask", retry=True)
        running: set[asyncio.Task[Failure | None]] = set()
        try:
            while addresses or running:
                if addresses:
                    running.add(asyncio.create_task(self._ask_one(addresses.pop())))
                done, running = await asyncio.wait(
                    running,
                    timeout=STAGGER_S if addresses else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    if task.cancelled():  # what grpc makes of a *server's* CANCELLED
                        continue
                    said = task.result()
                    denied = said is not None and said.reason in DENIALS
                    if said is None or not (said.retry or denied):
                        return said
                    if denied or failure.reason not in DENIALS:
                        failure = said
            return failure
        finally:
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running)

    async def _ask_one(self, address: str) -> Failure | None:
        request = alloc_pb2.GetRouteRequest(known_version=self._version(), admin=self._admin)
        metadata = self._credentials.metadata()
        try:
            async with open_channel(address, self._credentials) as channel:
                stub = alloc_stub(channel)
                answer = await stub.GetRoute(request, timeout=ATTEMPT_S, metadata=metadata)
            if answer is None:  # what grpc makes of bytes that it cannot decode
                text = f"{address} gave an answer that is no message"
                return Failure("UNREACHABLE", text, address, retry=True)
            if answer.HasField("table"):
                self._learn(answer.table)
        except grpc.RpcError as error:
            return self._refusal(error, address)
        except ForeignCluster as error:
            return Failure("FOREIGN_CLUSTER", f"{address}: {error}", address)
        except ValueError as error:
            return Failure("UNREACHABLE", f"{address}: {error}", address, retry=True)
        if self._version() == 0:
            return Failure("UNREACHABLE", f"{address} gave no table", address, retry=True)
        return None

    def _refusal(self, error: grpc.RpcError, address: str) -> Failure:
        """Another node may well answer, so no refusal of a single one is final."""
        reason, _ = reason_of(error)
        text, denied = explained(details_of(error), self._credentials), denial(error)
        if denied is not None:
            return refused(denied, f"{address}: {text}", address)
        if reason in TABLE and TABLE[reason].retry:
            return refused(reason, f"{address}: {text}", address)
        return Failure("UNREACHABLE", f"{address}: {text}", address, retry=True)
