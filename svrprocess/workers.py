"""Several processes of one program under a parent that starts, restarts and ends them.

A worker's standard input is a pipe of which the parent alone holds the other end. Its end is the
word to stop: closed by the parent that is to stop, or by the kernel where the parent has died. So
no worker outlives its parent, and it does not matter how often, or by whom, a signal that was meant
for all of them is repeated. Workers stand in process groups of their own, so that Ctrl-C is the
parent's alone.

A worker that cannot start (WRONG_USAGE, NOT_DONE) before all were ready for the first time ends the
parent with the same code: it would fail again. Any other that ends is started again, after a delay
that doubles while it goes on failing.
"""

import asyncio
import os
import random
import sys
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence
from contextlib import suppress

from clustermap.logs import get_logger
from svrprocess.failures import FATAL, NOT_DONE, SIGNALLED, WRONG_USAGE
from svrprocess.signals import Stop
from svrprocess.supervisor import unsupervised

BACKOFF_S = 0.2
MAX_BACKOFF_S = 10.0
CALM_S = 30.0
"""A worker that has been up for this long has not failed again, but anew."""

_READY = b"ready "
_log = get_logger(__name__)


async def end_with_input(stop: Stop) -> None:
    """Ask `stop` once standard input ends: what a worker runs, until cancelled."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    descriptor = sys.stdin.fileno()

    def readable() -> None:
        if not os.read(descriptor, 1):
            loop.remove_reader(descriptor)
            ended.set()

    loop.add_reader(descriptor, readable)
    try:
        await ended.wait()
        _log.info("parent_ended_or_stops")
        stop.ask()
    finally:
        loop.remove_reader(descriptor)


class Workers:
    """The parent's side. `run` does it all.

    commands: one command line per worker; it must run `end_with_input`, and print `ready HOST:PORT`
    on its standard output once it serves. grace_s: how long one may take to stop, in seconds;
    after that it is killed.
    """

    def __init__(self, commands: Sequence[Sequence[str]], grace_s: float) -> None:
        self._commands = commands
        self._grace_s = grace_s
        self._stop = Stop()
        self._ready: set[int] = set()
        self._all_were_ready = False
        self._live: dict[int, Process] = {}
        self._codes = [0] * len(commands)

    async def run(self, stop: Stop, on_ready: Callable[[], None]) -> int:
        """Keep all workers alive until `stop`; then the worst exit code of their last lives.

        on_ready: called once, when each of them has been ready.
        """
        self._stop = stop
        self._on_ready = on_ready
        try:
            async with asyncio.TaskGroup() as group:
                for index in range(len(self._commands)):
                    group.create_task(self._keep(index))
        finally:
            self.kill()
        return max(self._codes)

    def kill(self) -> None:
        """End every worker at once; the parent is about to end, too."""
        for process in self._live.values():
            _kill(process)

    async def _keep(self, index: int) -> None:
        backoff_s = BACKOFF_S
        loop = asyncio.get_running_loop()
        while not self._stop.asked:
            began_s = loop.time()
            self._codes[index] = code = await self._once(index)
            if self._stop.asked:
                return
            if not self._all_were_ready and code in (WRONG_USAGE, NOT_DONE):
                _log.error("worker_cannot_start", worker=index, code=code)
                self._stop.ask()
                return
            if loop.time() - began_s > CALM_S:
                backoff_s = BACKOFF_S
            delay_s = random.uniform(backoff_s / 2, backoff_s)
            backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)
            _log.error("worker_ended", worker=index, code=code, again_in_s=round(delay_s, 2))
            await self._stop.unless(asyncio.sleep(delay_s))

    async def _once(self, index: int) -> int:
        """One life of a worker; its exit code, as a shell would give it."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self._commands[index],
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=unsupervised(),
                start_new_session=True,  # a Ctrl-C is for the parent; uvloop knows no process_group
            )
        except OSError as error:
            _log.error("worker_not_started", worker=index, error=str(error))
            return FATAL
        self._live[index] = process
        _log.info("worker_started", worker=index, pid=process.pid)
        try:
            await self._stop.unless(self._watched(index, process))
            return _shell_code(await self._ended(index, process))
        finally:
            _kill(process)
            del self._live[index]

    async def _watched(self, index: int, process: Process) -> None:
        """Until it ends: read what it says, so that it never waits for us."""
        if process.stdout is not None:
            async for line in process.stdout:
                if line.startswith(_READY):
                    self._is_ready(index, line.decode(errors="replace").split()[-1])
        await process.wait()

    def _is_ready(self, index: int, address: str) -> None:
        _log.info("worker_ready", worker=index, address=address)
        self._ready.add(index)
        if len(self._ready) == len(self._commands) and not self._all_were_ready:
            self._all_were_ready = True
            self._on_ready()

    async def _ended(self, index: int, process: Process) -> int:
        """Tell it to stop, by the end of its input, and wait; its return code."""
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(self._grace_s):
                return await process.wait()
        except TimeoutError:
            _log.error("worker_killed", worker=index, grace_s=self._grace_s)
            _kill(process)
            return await process.wait()


def _kill(process: Process) -> None:
    with suppress(ProcessLookupError):  # it has ended, and asyncio knows, which nobody need yet
        process.kill()


def _shell_code(code: int) -> int:
    return SIGNALLED - code if code < 0 else code
