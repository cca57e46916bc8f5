"""One run: a plan, a world, its faults, the verdict. A pure function of its seed."""

import asyncio
import contextvars
import gc
import logging
import random
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache

import grpc.aio

from allocsvr.winning import Winning
from seqcheck.violations import Violation
from simsvr.faults import Faults
from simsvr.loop import Livelock, SimLoop
from simsvr.plan import Plan, drawn
from simsvr.plots import ALL_KINDS
from simsvr.stage import Script, Stage
from simsvr.transcript import LogLines, Transcript
from simsvr.world import World

TRIES = 10


@dataclass
class Outcome:
    """What a run was and what was found. Times in seconds."""

    seed: int
    plan: Plan
    violations: list[Violation] = field(default_factory=list)
    digest: str = ""
    simulated_s: float = 0.0
    real_s: float = 0.0
    turns: int = 0
    calls: int = 0
    failed: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    owners: int = 0
    crashes: int = 0
    story: str = ""

    @property
    def ok(self) -> bool:
        return not self.violations


def run(
    seed: int, *, plan: Plan | None = None, script: Script | None = None, lines: int = 80
) -> Outcome:
    """The run of a seed, or of a script on the world of that seed.

    lines: how much of the transcript is kept. What a script raises is raised.
    """
    _freeze()
    with _unheard():
        outcome = _judged(plan or drawn(seed, ALL_KINDS), script, lines)
        gc.collect()
    return outcome


@contextmanager
def opened(plan: Plan) -> Iterator[Stage]:
    """The world of a plan in the hands of somebody outside of the loop, who leads it step by step.

    Time passes in `Stage.play` only. Whoever leads it looks at `world.watch.violations`; what can
    only be said of a whole history is added by `world.watch.finish()`.
    """
    _freeze()
    before = random.getstate()
    loop = SimLoop(random.Random(f"loop {plan.seed}"))
    transcript = Transcript(loop)
    random.seed(f"product {plan.seed}")
    with _unheard(), _in_the_place_of_grpc(loop), _logged(transcript), _without_gc():
        world = World(loop, plan, transcript)
        with _seen(world):
            world.faults = Faults(world)
            world.begin()
            try:
                yield Stage(world)
            finally:
                world.watch.over = True
                _take_apart(loop)
                random.setstate(before)


def _take_apart(loop: SimLoop) -> None:
    """Let go of all that runs, in the time in which nobody hears of it.

    Whoever led the world may keep it for as long as they like: an error that they caught does.
    What cleans up begins tasks, and would have asyncio make a loop for them that lives for ever.
    """
    loop.sink()
    asyncio._set_running_loop(loop)
    closed: set[asyncio.Task[object]] = set()
    while tasks := sorted(asyncio.all_tasks(loop) - closed, key=hash):
        closed.update(tasks)
        for task in tasks:
            work = task.get_coro()
            for _ in range(TRIES):  # some go on, to clean up; the loop does nothing any more
                with suppress(BaseException):
                    work.close()
                    break
    asyncio._set_running_loop(None)
    gc.collect(0)  # where all of it still is, as nothing was collected meanwhile


@cache
def _freeze() -> None:
    """What was there before the first run is no garbage of any: not to be looked at after each."""
    gc.collect()
    gc.freeze()


def _judged(plan: Plan, script: Script | None, lines: int) -> Outcome:
    began_s = time.perf_counter()
    loop = SimLoop(random.Random(f"loop {plan.seed}"))
    transcript = Transcript(loop)
    # A context of its own: nothing of one run is seen by the next.
    world = contextvars.Context().run(_lived, loop, plan, script, transcript)
    outcome = _outcome(world, time.perf_counter() - began_s)
    if lines:
        last_ns = max((found.at_ns for found in outcome.violations[:1]), default=None)
        outcome.story = transcript.show(lines, last_ns)
    _take_apart(loop)
    return outcome


def _lived(loop: SimLoop, plan: Plan, script: Script | None, transcript: Transcript) -> World:
    random.seed(f"product {plan.seed}")  # what the product's own jitter draws from
    with _in_the_place_of_grpc(loop), _logged(transcript), _without_gc():
        world = World(loop, plan, transcript)
        with _seen(world):
            try:
                loop.run_until_complete(_whole(world, script))
            except (Livelock, RuntimeError) as error:
                world.watch.stuck(error)
            world.watch.finish()
    return world


async def _whole(world: World, script: Script | None) -> None:
    faults = world.faults = Faults(world)
    world.begin()
    if script is None:
        await faults.run()
        return
    try:
        await script(Stage(world))
    except AssertionError as error:
        world.watch.failed(str(error))


def _outcome(world: World, real_s: float) -> Outcome:
    plan, watch = world.plan, world.watch
    return Outcome(
        seed=plan.seed,
        plan=plan,
        violations=list(watch.violations),
        digest=world.transcript.digest,
        simulated_s=world.loop.now_ns / 1e9,
        real_s=real_s,
        turns=world.loop.turns,
        calls=watch.began_calls,
        failed=watch.failed_calls,
        faults=dict(world.faults.counts),
        owners=watch.owners,
        crashes=world.crashes,
    )


# -- what is another while a run lasts -------------------------------------------------------------


@contextmanager
def _in_the_place_of_grpc(loop: SimLoop) -> Iterator[None]:
    """Channels that the product opens are simulated ones, each of the run that it is opened in."""
    real = grpc.aio.insecure_channel

    def open_channel(address: str, options: object = None, **_: object) -> object:
        return loop.wires.open_channel(address, options)

    grpc.aio.insecure_channel = open_channel  # type: ignore[assignment]
    try:
        yield
    finally:
        grpc.aio.insecure_channel = real


@contextmanager
def _seen(world: World) -> Iterator[None]:
    """Tell the checkers which answers to a fence an owner counts (NRW-2)."""
    fenced = Winning._fenced

    def watched(self: Winning, attempts, index, response) -> None:  # type: ignore[no-untyped-def]
        sections = [attempt.section for attempt in attempts]
        world.watch.counted(f"owner {self._incarnation}", sections, response)
        fenced(self, attempts, index, response)

    Winning._fenced = watched  # type: ignore[method-assign]
    try:
        yield
    finally:
        Winning._fenced = fenced  # type: ignore[method-assign]


@contextmanager
def _unheard() -> Iterator[None]:
    """What Python says of coroutines that are taken apart in the middle is no part of a run."""
    root = logging.getLogger()
    before, level, hook = root.handlers[:], root.level, sys.unraisablehook
    root.handlers[:] = [logging.NullHandler()]
    sys.unraisablehook = lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.unraisablehook = hook
        root.handlers[:] = before
        root.setLevel(level)


@contextmanager
def _logged(transcript: Transcript) -> Iterator[None]:
    """What the product logs is in the transcript."""
    root, lines = logging.getLogger(), LogLines(transcript)
    root.setLevel(logging.INFO)
    root.addHandler(lines)
    try:
        yield
    finally:
        root.removeHandler(lines)


@contextmanager
def _without_gc() -> Iterator[None]:
    """When cycles are found depends on what was run before: not in here."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
