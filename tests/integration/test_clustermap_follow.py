"""`follow` over a coordinator that lies: late at worst, never wedged, never half a transaction."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import pytest

from clustermap.coordinator import (
    Change,
    Leadership,
    Listing,
    Registration,
    Versioned,
    follow,
)
from clustermap.errors import MapUnavailable

PATIENCE_S = 20.0
RELIST_S = 0.05


class Liar:
    """A map whose list and watch say what the test wants."""

    def __init__(self) -> None:
        self.listing = Listing(1, {})
        self.refuse_lists = 0
        self.events: asyncio.Queue[Change | MapUnavailable | None] = asyncio.Queue()
        self.lists = 0
        self.watches: list[int] = []

    def hold(self, revision: int, **values: int) -> None:
        entries = {k: Versioned(b"%d" % v, v) for k, v in values.items()}
        self.listing = Listing(revision, entries)

    async def get(self, prefix: str) -> Listing:
        self.lists += 1
        if self.refuse_lists:
            self.refuse_lists -= 1
            raise MapUnavailable("not now")
        return self.listing

    async def watch(self, prefix: str, after_revision: int) -> AsyncGenerator[Change, None]:
        self.watches.append(after_revision)
        while (event := await self.events.get()) is not None:
            if isinstance(event, MapUnavailable):
                raise event
            yield event

    async def transact(
        self, expected: Mapping[str, int], puts: Mapping[str, bytes | None]
    ) -> int | None:
        raise NotImplementedError

    async def register(self, key: str, value: bytes, ttl_s: float) -> Registration:
        raise NotImplementedError

    async def elect(self, name: str, candidate: bytes) -> Leadership:
        raise NotImplementedError

    async def aclose(self) -> None:
        raise NotImplementedError


async def upcoming(pictures: AsyncGenerator[dict[str, Versioned], None]) -> dict[str, int]:
    async with asyncio.timeout(PATIENCE_S):
        return {key: held.revision for key, held in (await anext(pictures)).items()}


def change(revision: int, **values: int | None) -> Change:
    return Change(
        revision, {k: None if v is None else Versioned(b"%d" % v, v) for k, v in values.items()}
    )


async def test_the_first_picture_comes_at_once_even_if_empty() -> None:
    async with aclosing(follow(Liar(), "a")) as pictures:
        assert await upcoming(pictures) == {}


async def test_changes_are_added_to_the_list_and_repeats_ignored() -> None:
    liar = Liar()
    liar.hold(5, a1=2, a2=5)
    async with aclosing(follow(liar, "a")) as pictures:
        assert await upcoming(pictures) == {"a1": 2, "a2": 5}
        for event in (
            change(4, a2=4),  # from before the list
            change(6, a3=6, b1=6),
            change(6, a3=6),
            change(7, a1=None),
        ):
            liar.events.put_nowait(event)
        assert await upcoming(pictures) == {"a1": 2, "a2": 5, "a3": 6}
        assert await upcoming(pictures) == {"a2": 5, "a3": 6}
    assert liar.watches == [5]


async def test_a_picture_handed_out_is_never_changed_afterwards() -> None:
    liar = Liar()
    async with aclosing(follow(liar, "a")) as pictures:
        first = await anext(pictures)
        liar.events.put_nowait(change(2, a1=2))
        await upcoming(pictures)
        assert first == {}


async def test_a_silent_watch_delays_by_one_relisting() -> None:
    liar = Liar()
    async with aclosing(follow(liar, "a", relist_s=RELIST_S)) as pictures:
        assert await upcoming(pictures) == {}
        liar.hold(9, a1=9)
        assert await upcoming(pictures) == {"a1": 9}


@pytest.mark.parametrize("event", [None, MapUnavailable("compacted")], ids=["ends", "fails"])
async def test_a_watch_that_goes_away_is_replaced(event: MapUnavailable | None) -> None:
    liar = Liar()
    async with aclosing(follow(liar, "a", relist_s=1000.0)) as pictures:
        assert await upcoming(pictures) == {}
        liar.events.put_nowait(change(2, a1=2))
        assert await upcoming(pictures) == {"a1": 2}
        liar.hold(3, a1=3)
        liar.events.put_nowait(event)
        assert await upcoming(pictures) == {"a1": 3}
        liar.events.put_nowait(change(4, a1=4))
        assert await upcoming(pictures) == {"a1": 4}
    assert liar.watches == [1, 3]


async def test_a_map_that_cannot_be_read_is_asked_again_but_not_in_a_rush() -> None:
    liar = Liar()
    liar.refuse_lists = 3
    liar.hold(1, a1=1)
    async with aclosing(follow(liar, "a")) as pictures:
        assert await upcoming(pictures) == {"a1": 1}
    assert liar.lists == 4


async def test_a_list_that_never_returns_is_given_up() -> None:
    class Stuck(Liar):
        async def get(self, prefix: str) -> Listing:
            if self.lists == 0:
                self.lists = 1
                await asyncio.Event().wait()
            return await super().get(prefix)

    async with aclosing(follow(Stuck(), "a", relist_s=RELIST_S)) as pictures:
        assert await upcoming(pictures) == {}


async def test_an_older_list_is_ignored_as_long_as_it_may_be_a_member_that_lags() -> None:
    liar = Liar()
    liar.hold(5, a1=5)
    async with aclosing(follow(liar, "a", relist_s=RELIST_S)) as pictures:
        assert await upcoming(pictures) == {"a1": 5}
        liar.hold(3, a1=3)
        seen = liar.lists
        waiting = asyncio.ensure_future(upcoming(pictures))
        while liar.lists < seen + 2 and not waiting.done():
            await asyncio.sleep(RELIST_S / 10)
        liar.hold(6, a1=6)
        assert await waiting == {"a1": 6}


async def test_a_map_that_was_wiped_is_believed_in_the_end() -> None:
    liar = Liar()
    liar.hold(500, a1=500)
    async with aclosing(follow(liar, "a", relist_s=RELIST_S)) as pictures:
        assert await upcoming(pictures) == {"a1": 500}
        seen = liar.lists
        liar.hold(2, a1=2)
        assert await upcoming(pictures) == {"a1": 2}
        assert liar.lists == seen + 3


async def test_nothing_is_said_where_nothing_has_changed() -> None:
    liar = Liar()
    liar.hold(5, a1=5)
    async with aclosing(follow(liar, "a", relist_s=RELIST_S)) as pictures:
        assert await upcoming(pictures) == {"a1": 5}
        waiting = asyncio.ensure_future(upcoming(pictures))
        liar.events.put_nowait(change(6, b1=6))
        while liar.lists < 4 and not waiting.done():
            await asyncio.sleep(RELIST_S / 10)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting])
