"""An event loop in virtual time: when nothing is left to do, it is at once the next timer's time.

Theory of operation. There is one loop, one thread, and no clock, socket or random source outside
of the seed, so a run can be repeated exactly. Callbacks carry a context, the context names a host
(hosts.py), and before each turn the loop looks whether that host may have it.

Two things of asyncio depend on addresses in memory and would spoil that: sets of tasks and of
futures. Both get a hash that is their serial number.

Work given to threads (`run_in_executor`: fsync) takes the time that the host's disk says, and is
then done in one instant. Where the host crashes meanwhile, a coin says whether it reached the disk.
"""

import asyncio
import contextvars
import random
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from heapq import heappop, heappush
from itertools import count
from typing import Any

from simsvr.hosts import HOST, Host, Life

_NOWHERE = contextvars.Context()

GIVE_UP = 200_000
"""Turns in one instant after which time is taken to have stopped."""

MOST_LOOKS = 100_000
"""At the clock in one turn, after which that turn is taken to have no end."""


class SimTask(asyncio.Task[Any]):
    """A task with a hash that is the same in every run."""

    __slots__ = ("_serial", "host")

    def __init__(self, *args: Any, serial: int, **options: Any) -> None:
        self._serial = serial
        self.host: Host | None = None
        super().__init__(*args, **options)

    def __hash__(self) -> int:
        return self._serial


class SimFuture(asyncio.Future[Any]):
    """A future with a hash that is the same in every run."""

    __slots__ = ("_serial",)
    _serial: int

    def __hash__(self) -> int:
        return self._serial


class Turn:
    """What asyncio calls a Handle, and a TimerHandle; as light as it can be."""

    __slots__ = ("args", "callback", "cancelled_", "context", "host", "own_time", "when_s")

    def __init__(
        self,
        callback: Callable[..., Any] | None,
        args: tuple[Any, ...],
        context: contextvars.Context,
        when_s: float = 0.0,
    ) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.host: Host | None = context.get(HOST)
        self.when_s = when_s
        self.own_time = False  # whether when_s is of its host's clock
        self.cancelled_ = False

    def cancel(self) -> None:
        self.cancelled_ = True
        self.callback, self.args = None, ()

    def cancelled(self) -> bool:
        return self.cancelled_

    def when(self) -> float:
        return self.when_s


class Livelock(RuntimeError):
    """Turns without end, or one that has none, and time does not go on."""


class SimLoop(asyncio.BaseEventLoop):
    """See the head of the module. rng: where every random decision of the loop's comes from."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.now_ns = 0
        self.turns = 0
        self._limit = GIVE_UP
        self._looks = 0  # at the clock, in the turn that is under way
        self.rng = rng
        self.disk_ns: Callable[[Host], int] = lambda _: 1_000_000
        self.faults: list[dict[str, Any]] = []
        self.wires: Any = None  # channels.Wires
        self._timers: list[tuple[int, int, Turn]] = []
        self._soon: deque[Turn] = deque()
        self._kept: list[SimTask] = []  # of hosts that have crashed
        self.serials = count(1)
        self._sunk = False
        self.set_task_factory(self._new_task)  # type: ignore[arg-type]
        self.set_exception_handler(self._faulty)

    # -- time

    def time(self) -> float:
        """Seconds of the clock of the host whose turn it is; true ones outside of all hosts."""
        self._looks += 1
        if self._looks > MOST_LOOKS:
            raise Livelock(f"a turn without end at {self.now_ns / 1e9:.6f} s")
        host = HOST.get()
        return (self.now_ns if host is None else host.mono_ns) / 1e9

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Turn:
        timer = Turn(callback, args, contextvars.copy_context() if context is None else context)
        timer.when_s = when
        timer.own_time = True
        if not self._sunk:
            self._push(timer)
        return timer

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Turn:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def at_ns(
        self,
        true_ns: int,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> None:
        """At a true time; in no host's context if none is given."""
        if not self._sunk:
            timer = Turn(callback, args, _NOWHERE if context is None else context, true_ns / 1e9)
            heappush(self._timers, (max(true_ns, self.now_ns), next(self.serials), timer))

    def reschedule(self, host: Host) -> None:
        """Its clock has changed: so has the true time of its timers."""
        old, self._timers = self._timers, []
        for true_ns, serial, timer in old:
            if timer.host is host and timer.own_time:
                self._push(timer, serial)
            else:
                heappush(self._timers, (true_ns, serial, timer))

    def requeue(self, turns: list[Turn]) -> None:
        """Give a host the turns that it has missed."""
        self._soon.extend(turns)

    def _push(self, timer: Turn, serial: int = 0) -> None:
        when_ns = timer.when_s * 1e9
        host = timer.host
        true_ns = int(when_ns) if host is None else host.true_ns(when_ns)
        entry = (max(true_ns, self.now_ns), serial or next(self.serials), timer)
        heappush(self._timers, entry)

    # -- turns

    def call_soon(  # type: ignore[override]
        self,
        callback: Callable[..., Any],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Turn:
        turn = Turn(callback, args, contextvars.copy_context() if context is None else context)
        if not self._sunk:
            self._soon.append(turn)
        return turn

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def _run_once(self) -> None:
        soon = self._soon
        if not soon:
            self._advance()
        for _ in range(len(soon)):
            turn = soon.popleft()
            if turn.cancelled_:
                continue
            host = turn.host
            if host is None or host.life is Life.RUNNING:
                self.turns += 1
                self._looks = 0
                try:
                    turn.context.run(turn.callback, *turn.args)  # type: ignore[arg-type]
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:  # noqa: BLE001 - as asyncio's own handles do
                    self.call_exception_handler({"message": "a callback", "exception": error})
                if (
                    self._looks > MOST_LOOKS
                ):  # the turn's task has taken it for a failure of its own
                    raise Livelock(
                        f"a turn without end at {self.now_ns / 1e9:.6f} s: {turn.callback}"
                    )
            elif host.life is Life.PAUSED:
                host.waiting.append(turn)
        if self.turns > self._limit:
            raise Livelock(f"no end of turns at {self.now_ns / 1e9:.6f} s: {turn.callback}")

    def _advance(self) -> None:
        """On to the next timer, and to all of the same instant."""
        timers = self._timers
        while timers and timers[0][2].cancelled_:
            heappop(timers)
        if not timers:
            raise RuntimeError("nothing is left to do, and the run has not ended")
        self.now_ns = due_ns = timers[0][0]
        self._limit = self.turns + GIVE_UP
        while timers and timers[0][0] == due_ns:
            self._soon.append(heappop(timers)[2])

    # -- tasks, futures, threads

    def _new_task(
        self, loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any
    ) -> SimTask:
        task = SimTask(work, loop=loop, serial=next(self.serials), **options)
        context = options.get("context")
        task.host = HOST.get() if context is None else context.get(HOST)
        return task

    def keep_tasks_of(self, host: Host) -> None:
        """Until the end: that Python takes them apart, whenever it does, is no event of the run."""
        self._kept += self.tasks_of(host)

    def tasks_of(self, host: Host) -> list[SimTask]:
        """Those that have not ended."""
        tasks = [task for task in asyncio.all_tasks(self) if isinstance(task, SimTask)]
        return [task for task in tasks if task.host is host]

    def create_future(self) -> SimFuture:
        future = SimFuture(loop=self)
        future._serial = next(self.serials)
        return future

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> SimFuture:
        """What a thread would do, in the time that the disk takes."""
        del executor
        host = HOST.get()
        future = self.create_future()
        job = _Job(func, args, future, self.rng)
        delay_ns = 0 if host is None else self.disk_ns(host)
        if host is not None:
            host.on_crash.append(job.crashed)
        self.call_later(delay_ns / 1e9, self._done, job, host)
        return future

    def _done(self, job: "_Job", host: Host | None) -> None:
        if host is not None:
            host.on_crash.remove(job.crashed)
        job.run()

    # -- the end

    def sink(self) -> None:
        """The run is over: nothing that objects do while they are taken apart has an effect."""
        self._sunk = True
        self._soon.clear()
        self._timers.clear()

    def _faulty(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not self._sunk:
            self.faults.append(context)

    def _write_to_self(self) -> None:
        pass

    def _process_events(self, event_list: Any) -> None:
        pass


class _Job:
    """A piece of work for a thread."""

    def __init__(
        self,
        func: Callable[..., Any],
        args: tuple[Any, ...],
        future: "asyncio.Future[Any]",
        rng: random.Random,
    ) -> None:
        self._rng = rng
        self._func = func
        self._args = args
        self._future = future

    def run(self) -> None:
        try:
            result = self._func(*self._args)
        except Exception as error:  # noqa: BLE001 - it is its caller's
            if not self._future.done():
                self._future.set_exception(error)
        else:
            if not self._future.done():
                self._future.set_result(result)

    def crashed(self, _: bool) -> None:
        """It may have been through, and nobody will ever be told."""
        if not self._future.done() and self._rng.random() < 0.5:
            with suppress(Exception):
                self._func(*self._args)
