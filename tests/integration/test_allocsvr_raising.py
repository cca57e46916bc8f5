"""When raises leave, and which of them together; what comes of them is met through a node."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from prometheus_client import CollectorRegistry

from allocsvr import raising
from allocsvr.generation import Generation
from allocsvr.metrics import Metrics
from allocsvr.raising import Raising
from allocsvr.replicas import Replicas
from allocsvr.section import Section, State
from cluster_in_a_box import eventually
from clustermap.clock import BootClock
from clustermap.membership import one_group
from seqsvr.v1 import store_pb2 as pb

LONG_S = 60.0


class Replica:
    """Acknowledges every raise, and keeps the sections of each request."""

    def __init__(self) -> None:
        self.requests: list[list[int]] = []

    async def raise_max(self, request: pb.RaiseRequest) -> pb.RaiseResponse:
        self.requests.append([entry.section for entry in request.entries])
        return pb.RaiseResponse()


class World:
    """Raises at one replica."""

    def __init__(self, spawn: Callable[..., object]) -> None:
        self.replica = Replica()
        replicas = Replicas([self.replica], spawn, LONG_S, LONG_S)  # type: ignore[list-item]
        header = pb.StoreHeader(membership=1)
        self.generation = Generation(header, replicas, one_group(1, 1), one_group(1, 1))
        self.overtaken: list[int] = []
        self.raising = Raising(
            BootClock(),
            lambda: self.generation,
            1,
            lambda section, max_seq: section.raised(max_seq),
            lambda _first, _last, _epoch: None,
            lambda _section: None,
            lambda sections: self.lose(sections),
            Metrics(CollectorRegistry()),
        )

    def lose(self, sections: list[Section]) -> None:
        for section in sections:
            section.lose()
        self.overtaken += [section.id for section in sections]

    def section(self, number: int, state: State = State.SERVING) -> Section:
        """One whose window is 1,000 numbers."""
        made = Section(number, 1, 0, found=0, size=10, on_hungry=self.raising.want)
        made.state = state
        made.raised(1_000)
        return made

    async def begin(self) -> None:
        """A first request, after which nothing has reason to hurry."""
        self.raising.want(self.section(0))
        await eventually(lambda: self.replica.requests == [[0]])


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with asyncio.TaskGroup() as group:
        made = World(group.create_task)
        running = group.create_task(made.raising.run())
        yield made
        running.cancel()


async def some_turns() -> None:
    """Of the loop: more than a request takes here."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_what_gets_hungry_just_after_a_request_goes_together(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raising, "PACE_S", 0.5)
    await world.begin()
    for number in (1, 2, 3):
        world.raising.want(world.section(number))
        await some_turns()
    await eventually(lambda: len(world.replica.requests) > 1)
    assert world.replica.requests == [[0], [1, 2, 3]]


@pytest.mark.parametrize("why", ["its window is used up", "it is not served yet"])
async def test_a_section_in_a_hurry_waits_for_nobody_and_takes_the_others_along(
    world: World, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    monkeypatch.setattr(raising, "PACE_S", LONG_S)
    await world.begin()
    world.raising.want(world.section(1))
    await some_turns()
    assert world.replica.requests == [[0]]
    if why == "it is not served yet":
        world.raising.want(world.section(2, State.RAISING))
    else:
        world.section(2).take(3, 1_001)
    await eventually(lambda: len(world.replica.requests) > 1)
    world.raising.want(world.section(3))
    await some_turns()
    assert world.replica.requests == [[0], [1, 2]], "and the next one is in no hurry again"


async def test_a_full_request_does_not_wait_to_get_fuller(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raising, "PACE_S", LONG_S)
    monkeypatch.setattr(raising, "MAX_SECTIONS", 2)
    await world.begin()
    for number in (1, 2):
        world.raising.want(world.section(number))
        await some_turns()
    await eventually(lambda: len(world.replica.requests) > 1)
    assert world.replica.requests == [[0], [1, 2]]


async def test_a_first_raise_is_not_sent_under_another_membership_than_the_fence(
    world: World,
) -> None:
    """Rule 4: such a section is won anew; one that is served goes on under the new membership."""
    await world.begin()
    header = pb.StoreHeader(membership=2)
    world.generation = world.generation._replace(header=header)
    served, fenced = world.section(1), world.section(2, State.RAISING)
    world.raising.want(served)
    world.raising.want(fenced)
    await eventually(lambda: [1] in world.replica.requests)
    assert world.overtaken == [2]
    assert not any(2 in request for request in world.replica.requests)
