"""The port to the cluster map: compare-and-swap, watch, registration, election.

What an implementation has to promise is little, because nothing that matters leans on it
(docs/PROTOCOL.md, section 5): a transaction is atomic and happens at most once; revisions of one
map rise with every change; `get` is a view at one instant. It may be late or old, watches may
stop, skip or repeat, a registration may be believed alive or dead wrongly for a while. `follow`
turns that into a picture that is late at worst.

Every method raises MapUnavailable where the map cannot be reached or written. After that the
outcome of a transaction is unknown: read again, then decide again.

Contract suite: tests/integration/test_clustermap_contract.py.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from clustermap.errors import MapUnavailable
from clustermap.logs import get_logger

log = get_logger(__name__)

RELIST_S = 10.0
_BACKOFF_S = 0.05
_OLDER_LISTS = 3
_DOUBT_S = 0.3


@dataclass(frozen=True, slots=True)
class Versioned:
    """A value, and the revision at which it was last written (never 0)."""

    value: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Listing:
    """Everything under a prefix at one instant: the map's revision then, and the keys."""

    revision: int
    entries: dict[str, Versioned]


@dataclass(frozen=True, slots=True)
class Change:
    """All that one transaction did under a prefix; None: the key is gone."""

    revision: int
    entries: dict[str, Versioned | None]


class Registration(Protocol):
    """A key that stands as long as its process lives."""

    @property
    def lost(self) -> asyncio.Event:
        """Set once the map may count the key as gone. Final: register again."""

    async def update(self, value: bytes) -> None:
        """Replace the value. Raises MapUnavailable, also where the registration is lost."""

    async def aclose(self) -> None:
        """Take the key away. May be called twice."""


class Leadership(Protocol):
    """An election won. Act only by transactions that expect `key` at `revision`."""

    @property
    def key(self) -> str: ...

    @property
    def revision(self) -> int: ...

    @property
    def lost(self) -> asyncio.Event:
        """Set once somebody else may have been elected."""

    async def resign(self) -> None:
        """Let the next candidate win. May be called twice."""


class Coordinator(Protocol):
    """A map of keys to bytes, shared by all parties of a cluster."""

    async def get(self, prefix: str) -> Listing:
        """All keys that begin with `prefix`, those of registrations and elections too."""

    async def transact(
        self, expected: Mapping[str, int], puts: Mapping[str, bytes | None]
    ) -> int | None:
        """Write all of `puts` (None deletes) at once if every expectation holds.

        expected: key -> the revision it must have been last written at; 0: it must not exist.
        Returns the map's revision after it; None if an expectation failed and nothing was done.
        Keys of registrations and elections may be expected, but not put (ValueError).
        """

    def watch(self, prefix: str, after_revision: int) -> AsyncGenerator[Change, None]:
        """Changes under `prefix` later than a revision, by rising revision. May end at any time.

        Raises MapUnavailable also where changes that old are no longer known: list again.
        """

    async def register(self, key: str, value: bytes, ttl_s: float) -> Registration:
        """Bind `key` to the life of this process: it goes at most about ttl_s after it.

        The key must be the caller's own (it names its incarnation); an earlier registration of the
        same key is lost by this.
        """

    async def elect(self, name: str, candidate: bytes) -> Leadership:
        """Wait until this candidate leads `name`; `candidate` is what others see at the key."""

    async def aclose(self) -> None:
        """End every registration, election and watch of this process. May be called twice."""


async def follow(
    coordinator: Coordinator, prefix: str, *, relist_s: float = RELIST_S
) -> AsyncGenerator[dict[str, Versioned], None]:
    """Whole pictures of a prefix: one at once, then one whenever something has changed.

    Lists, watches, and every `relist_s` seconds lists again and watches anew, so that a watch that
    ends, fails, is silent or skips changes delays a picture by that much and never wedges it.
    Never raises MapUnavailable: it goes on trying. A caller that is slow misses pictures, not the
    last one. Close it (contextlib.aclosing) when done.
    """
    picture = _Picture(prefix)
    backoff_s = _BACKOFF_S
    while True:
        try:
            if picture.install(await _list(coordinator, prefix, relist_s)):
                yield picture.entries
            if picture.in_doubt:
                await asyncio.sleep(random.uniform(_DOUBT_S / 2, _DOUBT_S))
                continue
            async with aclosing(_changes(coordinator, picture, relist_s)) as changes:
                async for change in changes:
                    if picture.apply(change):
                        yield picture.entries
            backoff_s = _BACKOFF_S
            continue
        except MapUnavailable as error:
            if backoff_s == _BACKOFF_S:  # once per outage
                log.warning("map_follow_failed", prefix=prefix, error=str(error))
        await asyncio.sleep(random.uniform(backoff_s / 2, backoff_s))
        backoff_s = min(backoff_s * 2, relist_s)


async def _list(coordinator: Coordinator, prefix: str, timeout_s: float) -> Listing:
    try:
        async with asyncio.timeout(timeout_s):
            return await coordinator.get(prefix)
    except TimeoutError:
        raise MapUnavailable(f"no list of {prefix!r} within {timeout_s} s") from None


async def _changes(
    coordinator: Coordinator, picture: "_Picture", relist_s: float
) -> AsyncGenerator[Change, None]:
    """What a watch says until it is time to list again; its end before that is a failure."""
    deadline = asyncio.get_running_loop().time() + relist_s
    async with aclosing(coordinator.watch(picture.prefix, picture.revision)) as events:
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    change = await anext(events)
            except TimeoutError:
                return
            except StopAsyncIteration:
                raise MapUnavailable("the watch ended") from None
            yield change


class _Picture:
    """What is believed to stand under a prefix. Each new state is a new dictionary."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.revision = 0
        self.entries: dict[str, Versioned] = {}
        self._blank = True
        self._older_lists = 0

    @property
    def in_doubt(self) -> bool:
        """The latest list was older than what is known, and is not believed yet."""
        return self._older_lists > 0

    def install(self, listing: Listing) -> bool:
        """Take over a list; whether that changed anything (the first one always does)."""
        if listing.revision < self.revision:
            # A member that lags shows an old state for a moment. A map that was wiped or restored
            # does so for good, and must not be ignored for long: whoever holds sections has to
            # write them down again before others are given them.
            self._older_lists += 1
            if self._older_lists < _OLDER_LISTS:
                return False
        self._older_lists = 0
        changed = self._blank or listing.entries != self.entries
        self._blank = False
        self.revision = listing.revision
        self.entries = listing.entries
        return changed

    def apply(self, change: Change) -> bool:
        """Add a change; False where it was known already."""
        if change.revision <= self.revision:
            return False
        self.revision = change.revision
        entries = dict(self.entries)
        for key, versioned in change.entries.items():
            if not key.startswith(self.prefix):
                continue
            if versioned is None:
                entries.pop(key, None)
            else:
                entries[key] = versioned
        changed = entries != self.entries
        self.entries = entries
        return changed
