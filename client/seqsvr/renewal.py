"""Sessions that change over to new credentials while they are used.

The files are looked at about once a second. Once they have changed, each session is followed by one
whose channel is connected already; what was sent before ends on the old channel, and the rest goes
over. Where the new credentials do not connect what is open stays open, and all is tried again at
the next look: a node that does not know the new authority yet will.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable

import grpc.aio

from seqsvr.channels import is_ready, open_channel, why_not_ready
from seqsvr.credentials import POLL_S, Credentials
from seqsvr.session import Session

CONNECT_S = 2.0
_log = logging.getLogger("seqsvr")


class Renewal:
    """sessions: those in use; follow: has a session over this channel, or one that is yet to be
    opened if None, take the place of another, or says that the other is not in use any more.
    """

    def __init__(
        self,
        credentials: Credentials,
        sessions: Callable[[], Iterable[Session]],
        follow: Callable[[Session, grpc.aio.Channel | None], bool],
    ) -> None:
        self._credentials = credentials
        self._sessions = sessions
        self._follow = follow
        self._complained = 0  # the generation whose failure to connect the log has been told
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Unless there is no file to look at, or it has been started."""
        if self._credentials.watched and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            self._credentials.look()
            stale = [session for session in self._sessions() if session.stale]
            async with asyncio.TaskGroup() as tasks:
                for session in stale:
                    tasks.create_task(self._renew(session))

    async def _renew(self, session: Session) -> None:
        if not session.connected:  # there is nothing to keep open
            self._follow(session, None)
            return
        generation = self._credentials.generation
        channel = open_channel(session.address, self._credentials)
        passed_on = False
        try:
            ready = await self._connected(session.address, channel)
            current = generation == self._credentials.generation
            passed_on = ready and current and self._follow(session, channel)
        finally:
            if not passed_on:
                await channel.close()

    async def _connected(self, address: str, channel: grpc.aio.Channel) -> bool:
        why = f"no answer in {CONNECT_S:g} s"
        try:
            async with asyncio.timeout(CONNECT_S):
                if await is_ready(channel):
                    return True
        except TimeoutError:
            pass
        else:
            why = await why_not_ready(channel, self._credentials)
        if self._complained != self._credentials.generation:
            self._complained = self._credentials.generation
            _log.warning("%s: new credentials do not connect yet: %s", address, why)
        return False
