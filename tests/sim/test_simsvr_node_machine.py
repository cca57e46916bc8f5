"""Any story that can be told of a small cluster: calls, and everything that is done to it.

All promises, and LIVE: the simulator's checkers look on, and each caller besides compares with what
it had before. The cluster is the real one on simulated hosts (three replicas, two nodes, an
arbiter, the map); nothing happens between two rules, so what Hypothesis shrinks to is a story that
a person can follow. The transcript's last lines come with it.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import ExitStack, suppress
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from seqsvr.errors import SeqError
from simsvr.network import Weather
from simsvr.plan import Plan
from simsvr.programs import DRAIN_S
from simsvr.run import opened
from simsvr.stage import InVain, Stage

SIZE = 10
UIDS = st.sampled_from([0, SIZE - 1, SIZE])
REPLICAS = ("store-0", "store-1", "store-2")
NODES = st.sampled_from(["node-0", "node-1"])
STORES = st.sampled_from(REPLICAS)
PROGRAMS = st.one_of(NODES, STORES, st.sampled_from(["etcd", "arbiter-0"]))
REACHES = [(*REPLICAS, "etcd"), REPLICAS, REPLICAS[1:], REPLICAS[:1], ("etcd",)]
CALLERS = st.sampled_from(["a caller", "another caller"])
SHOWN = 40
INSTANT_S = 1e-6
PATIENCE_S = 3.0
LATE_S = 2.0
LATE = Weather(late=0.5, late_ns=int(LATE_S * 1e9), duplicates=0.5)


class WholeCluster(RuleBasedStateMachine):
    stage: Stage

    @initialize(seed=st.integers(0, 7))
    def everything_is_started(self, seed: int) -> None:
        self.open = ExitStack()
        plan = Plan(
            seed,
            sections=2,
            section_size=SIZE,
            nodes=2,
            arbiters=1,
            clients=0,
            step=8,
            calm_s=DRAIN_S + 12.0,  # a node that was told to leave may take so long
            kinds=("all of them",),
        )
        self.stage = self.open.enter_context(opened(plan))
        self.broken = False
        self.highest: dict[int, int] = {}  # that any caller was answered
        self.spoilt: str | None = None
        self.waiting: set[asyncio.Task[None]] = set()
        self.stage.play(self.stage.serves())

    # -- callers

    @rule(uid=UIDS, count=st.sampled_from([1, 1, 3, 9]), caller=CALLERS)
    def numbers_are_asked_for(self, uid: int, count: int, caller: str) -> None:
        self._call(self._next(uid, count, caller), PATIENCE_S)

    @rule(uid=UIDS, caller=CALLERS)
    def a_number_is_asked_for_and_not_waited_for(self, uid: int, caller: str) -> None:
        self._call(self._next(uid, 1, caller), 0.0)

    @rule(caller=CALLERS)
    def a_batch_is_asked_for(self, caller: str) -> None:
        self._call(self._batch([0, SIZE, 0], caller), PATIENCE_S)

    @rule(uid=UIDS, caller=CALLERS)
    def current_is_asked_for(self, uid: int, caller: str) -> None:
        self._call(self._current(uid, caller), PATIENCE_S)

    def _call(self, call: Coroutine[Any, Any, None], patience_s: float) -> None:
        """Begin a call; it goes on after that much time."""

        async def begun() -> None:
            task = asyncio.get_running_loop().create_task(call)
            self.waiting.add(task)
            await asyncio.wait([task], timeout=patience_s)
            await asyncio.sleep(INSTANT_S)  # what comes next has not begun before the answer

        self.stage.play(begun())

    async def _next(self, uid: int, count: int, caller: str) -> None:
        before = self.highest.get(uid, 0)
        with suppress(SeqError):
            first = await self.stage.next(uid, count, client=caller)
            assert first > before, f"SEQ-1: {first} of uid {uid} after {before}"
            self._seen(uid, first + count - 1)

    async def _batch(self, uids: list[int], caller: str) -> None:
        before = dict(self.highest)
        with suppress(SeqError):
            for uid, seq in zip(uids, await self.stage.next_many(uids, client=caller), strict=True):
                assert seq > before.get(uid, 0), f"SEQ-1: {seq} of uid {uid} after {before}"
                before[uid] = seq
                self._seen(uid, seq)

    async def _current(self, uid: int, caller: str) -> None:
        before = self.highest.get(uid, 0)
        with suppress(SeqError):
            seq, _ = await self.stage.current(uid, client=caller)
            assert seq >= before, f"SEQ-4: {seq} is current of uid {uid} after {before}"
            self._seen(uid, seq)

    def _seen(self, uid: int, seq: int) -> None:
        self.highest[uid] = max(seq, self.highest.get(uid, 0))

    # -- time

    @rule()
    def a_moment_passes(self) -> None:
        """Nothing at all: what Hypothesis shrinks a step to before it leaves it out."""

    @rule(seconds=st.sampled_from([0.001, 0.02, 0.3, 1.0, 2.2]))
    def time_passes(self, seconds: float) -> None:
        self.stage.play(self.stage.passes(seconds))

    @rule()
    def it_settles(self) -> None:
        """Until all is served, if that is to be; then everybody calls."""

        async def settled() -> None:
            for _ in range(60):
                if None not in (self.stage.owner(0), self.stage.owner(1)):
                    return
                await asyncio.sleep(0.1)

        self.stage.play(settled())
        self._everybody_calls(0)
        self._everybody_calls(1)

    def _everybody_calls(self, section: int) -> None:
        """Current, then a number, both callers; whoever has to wait for an answer goes on so."""
        uid = section * SIZE
        for caller in ("a caller", "another caller"):
            self._call(self._current(uid, caller), 0.1)
            self._call(self._next(uid, 1, caller), 0.1)

    @rule(name=PROGRAMS, fast=st.booleans())
    def a_clock_runs_off(self, name: str, fast: bool) -> None:
        """As far as clocks may."""
        drift = self.stage.world.plan.max_drift
        self.stage.world.places[name].host.set_rate(1 + drift if fast else 1 - drift)

    # -- programs

    @rule(name=PROGRAMS)
    def one_is_killed(self, name: str) -> None:
        self.stage.kill(name)

    @rule(name=PROGRAMS)
    def one_loses_power(self, name: str) -> None:
        self.stage.kill(name, silent=True)

    @rule(name=PROGRAMS)
    def one_is_started_again(self, name: str) -> None:
        self.stage.restart(name)

    @rule(name=PROGRAMS)
    def one_is_killed_and_started_again(self, name: str) -> None:
        self.stage.kill(name)
        self.stage.restart(name)

    @rule(name=PROGRAMS)
    def one_freezes(self, name: str) -> None:
        self.stage.pause(name)

    @rule(name=PROGRAMS)
    def one_goes_on(self, name: str) -> None:
        self.stage.resume(name)

    @rule(name=NODES)
    def a_node_is_told_to_leave(self, name: str) -> None:
        self.stage.drain(name)

    # -- the network

    @rule(node=NODES, peers=st.sampled_from(REACHES))
    def a_node_is_cut_off(self, node: str, peers: tuple[str, ...]) -> None:
        """Callers still reach it."""
        self.stage.cut(*((node, peer) for peer in peers))

    @rule(node=NODES, peer=st.one_of(STORES, NODES, CALLERS), out=st.booleans())
    def one_direction_is_cut(self, node: str, peer: str, out: bool) -> None:
        self.stage.cut((node, peer) if out else (peer, node), both=False)

    @rule(node=NODES, store=STORES)
    def messages_are_late_and_doubled(self, node: str, store: str) -> None:
        self.stage.weather(LATE, (node, store))

    @rule()
    def the_network_is_mended(self) -> None:
        self.stage.mend()

    # -- disks

    @rule(store=st.integers(0, 2), seconds=st.sampled_from([0.5, 3.0]))
    def a_disk_stalls(self, store: int, seconds: float) -> None:
        self.stage.stall_disk(store, seconds)

    @precondition(lambda self: self.spoilt is None)
    @rule(store=STORES, blank=st.booleans())
    def a_replica_comes_up_with_a_spoilt_disk(self, store: str, blank: bool) -> None:
        """While it is down; one at most, since the other two are the quorum from then on.

        Nothing of it is on its way any more by then, so all that it says is of the spoilt disk.
        """
        self.spoilt = store
        self.stage.kill(store)
        self.stage.play(self.stage.passes(LATE_S + 0.5))
        self.stage.spoil_disk(int(store[-1]), blank=blank)
        self.stage.restart(store)

    # -- the map

    @rule(section=st.integers(0, 1), node=NODES)
    def a_section_is_moved(self, section: int, node: str) -> None:
        self._assign(section, node, planned=True)

    @rule(section=st.integers(0, 1), node=NODES)
    def a_section_is_seized(self, section: int, node: str) -> None:
        """Whoever serves it."""
        self._assign(section, node, planned=False)

    @rule(section=st.integers(0, 1), node=NODES)
    def a_section_is_seized_and_won(self, section: int, node: str) -> None:
        """The same with as much time as it needs; then callers try whoever they know."""
        self._assign(section, node, planned=False)
        self.stage.play(self._won(section, node))
        self._everybody_calls(section)

    async def _won(self, section: int, node: str) -> None:
        for _ in range(60):
            if self.stage.owner(section) == node:
                return
            await asyncio.sleep(0.05)

    def _assign(self, section: int, node: str, *, planned: bool) -> None:
        if node in self.stage.world.nodes:
            self.stage.assign(section, section, node, planned=planned)

    @rule(name=st.just("etcd"))
    def all_is_wiped_from(self, name: str) -> None:
        """An argument, so that it is no step that Hypothesis takes for the simplest."""
        self.stage.world.wipe_map()

    # -- what must hold

    @invariant()
    def every_promise_is_kept(self) -> None:
        if hasattr(self, "stage"):
            answered = {task for task in self.waiting if task.done()}
            self.waiting -= answered
            wrong = [str(error) for task in answered if (error := task.exception()) is not None]
            wrong += map(str, self.stage.world.watch.violations)
            self.broken = bool(wrong)
            assert not wrong, "\n".join([*wrong, self._story()])

    def teardown(self) -> None:
        """Once nothing fails any more, everything serves again: no story wedges a section."""
        if not hasattr(self, "stage"):
            return
        with self.open:
            if self.broken:
                return
            try:
                self.stage.play(self.stage.recovers())
            except InVain as vain:
                raise AssertionError(f"LIVE: {vain}\n{self._story()}") from None
            self.stage.world.watch.finish()
            self.every_promise_is_kept()

    def _story(self) -> str:
        return self.stage.world.transcript.show(SHOWN)


WholeCluster.TestCase.settings = settings(max_examples=65, stateful_step_count=50)
TestWholeCluster = WholeCluster.TestCase
