"""The cluster map of one process, in one file of its data directory.

`map.json` is replaced as a whole by each transaction: written beside it, fsynced, renamed over it,
the directory fsynced; only then is the transaction visible to anybody. So after a crash the file
is the old map or the new one. It is one JSON object,

    {"format":1,"sha256":"<of the bytes of map>","map":{"entries":{key: [revision, value]}, ...}}

in exactly this spelling: every byte is either fixed or under the checksum, so that a flipped bit
anywhere is noticed.

Registrations, elections and watches live in memory: their holder is this process, so they cannot
outlive it, and no time-to-live is needed.

A write that fails leaves the map in memory as it was and raises MapUnavailable. If the rename had
been reached, a later start may find the new map all the same: the outcome is unknown, as with any
other coordinator. Nothing is retried on the same file, so a failed fsync is never taken back.

The directory must be this process's alone; the lock on it is held by whoever opened it (StoreSvr's
engine, where both live in one process).
"""

import asyncio
import hashlib
import json
import os
import re
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

from clustermap.coordinator import Change, Leadership, Listing, Registration, Versioned
from clustermap.errors import MapCorrupt, MapUnavailable

FORMAT = 1
FILE = "map.json"
ELECTIONS_PREFIX = "elections/"
_KNOWN_CHANGES = 1024  # a watch that lags more than these has to list again

_FRAME = re.compile(
    rb'\{"format":(?P<format>[0-9]{1,9}),"sha256":"(?P<sha256>[0-9a-f]{64})","map":(?P<map>.*)\}\n',
    re.DOTALL,
)

T = TypeVar("T")
Entries = dict[str, Versioned]


class EmbeddedCoordinator:
    """The port of clustermap.coordinator; `open` makes one."""

    def __init__(self, path: Path, revision: int, entries: Entries) -> None:
        self._path = path
        self._revision = revision
        self._durable = entries
        self._bound: dict[str, tuple[Versioned, _Bound]] = {}
        self._lock = asyncio.Lock()
        self._news = asyncio.Event()
        self._changes: deque[Change] = deque(maxlen=_KNOWN_CHANGES)
        self._known_after = revision
        self._running: set[asyncio.Task[Any]] = set()
        self._closed = False

    @classmethod
    async def open(cls, directory: Path) -> "EmbeddedCoordinator":
        """The map kept in `directory`, empty if there is none.

        Raises MapCorrupt where the file is damaged or of another format, MapUnavailable where it
        cannot be read.
        """
        path = Path(directory) / FILE
        revision, entries = await asyncio.to_thread(load, path)
        return cls(path, revision, entries)

    async def get(self, prefix: str) -> Listing:
        self._require_open()
        found = {key: held for key, held in self._durable.items() if key.startswith(prefix)}
        found |= {key: held for key, (held, _) in self._bound.items() if key.startswith(prefix)}
        return Listing(self._revision, found)

    async def transact(
        self, expected: Mapping[str, int], puts: Mapping[str, bytes | None]
    ) -> int | None:
        # A caller that is cancelled must not leave a written file with an unchanged memory.
        return await self._to_the_end(self._transact(dict(expected), dict(puts)))

    async def watch(self, prefix: str, after_revision: int) -> AsyncGenerator[Change, None]:
        told = after_revision
        while not self._closed:
            news = self._news
            if told < self._known_after:
                raise MapUnavailable(f"changes after revision {told} are no longer known")
            for change in [change for change in self._changes if change.revision > told]:
                told = change.revision
                entries = {k: held for k, held in change.entries.items() if k.startswith(prefix)}
                if entries:
                    yield Change(told, entries)
            await news.wait()

    async def register(self, key: str, value: bytes, ttl_s: float) -> Registration:  # noqa: ARG002
        """`ttl_s` has no use here: key and holder die together."""
        async with self._lock:
            self._require_open()
            if key in self._durable:
                raise ValueError(f"{key!r} is a lasting document, not a registration")
            if key in self._bound:
                self._bound[key][1].lost.set()
            return self._bind(_Bound(self, key), value)

    async def elect(self, name: str, candidate: bytes) -> Leadership:
        key = ELECTIONS_PREFIX + name
        while True:
            async with self._lock:
                self._require_open()
                if key not in self._bound:
                    return self._bind(_Bound(self, key), candidate)
                news = self._news
            await news.wait()

    async def aclose(self) -> None:
        self._closed = True
        if self._running:
            await asyncio.wait(self._running)
        for _, bound in self._bound.values():
            bound.lost.set()
        self._bound.clear()
        self._news.set()

    async def _to_the_end(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` to its end even where the caller is cancelled."""
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.shield(task)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # seen, also where the caller has gone

    async def _transact(
        self, expected: dict[str, int], puts: dict[str, bytes | None]
    ) -> int | None:
        async with self._lock:
            self._require_open()
            for key in puts:
                if key in self._bound or key.startswith(ELECTIONS_PREFIX):
                    raise ValueError(f"{key!r} is bound to its holder, who alone writes it")
            if any(self._written_at(key) != revision for key, revision in expected.items()):
                return None
            revision = self._revision + 1
            changed: dict[str, Versioned | None] = {
                key: None if value is None else Versioned(value, revision)
                for key, value in puts.items()
                if value is not None or key in self._durable
            }
            if not changed:
                return self._revision
            entries = {k: held for k, held in {**self._durable, **changed}.items() if held}
            await asyncio.to_thread(store, self._path, revision, entries)
            self._durable = entries
            self._announce(changed)
            return revision

    async def _rebind(self, bound: "_Bound", value: bytes) -> None:
        async with self._lock:
            if bound.lost.is_set():
                raise MapUnavailable(f"the registration of {bound.key!r} is lost")
            self._bind(bound, value)

    async def _unbind(self, bound: "_Bound") -> None:
        async with self._lock:
            if not bound.lost.is_set():
                bound.lost.set()
                del self._bound[bound.key]
                self._announce({bound.key: None})

    def _bind(self, bound: "_Bound", value: bytes) -> "_Bound":
        held = Versioned(value, self._revision + 1)
        self._bound[bound.key] = held, bound
        self._announce({bound.key: held})
        bound.revision = held.revision
        return bound

    def _announce(self, entries: dict[str, Versioned | None]) -> None:
        self._revision += 1
        if len(self._changes) == self._changes.maxlen:
            self._known_after = self._changes[0].revision
        self._changes.append(Change(self._revision, entries))
        self._news.set()
        self._news = asyncio.Event()

    def _written_at(self, key: str) -> int:
        if key in self._bound:
            return self._bound[key][0].revision
        return self._durable[key].revision if key in self._durable else 0

    def _require_open(self) -> None:
        if self._closed:
            raise MapUnavailable("the cluster map is closed")


class _Bound:
    """Registration and Leadership in one: a key in memory and its holder."""

    def __init__(self, coordinator: EmbeddedCoordinator, key: str) -> None:
        self._coordinator = coordinator
        self.key = key
        self.revision = 0
        self.lost = asyncio.Event()

    async def update(self, value: bytes) -> None:
        await self._coordinator._rebind(self, value)

    async def aclose(self) -> None:
        await self._coordinator._to_the_end(self._coordinator._unbind(self))

    resign = aclose


def load(path: Path) -> tuple[int, Entries]:
    """Revision and entries of a map file; (0, {}) if there is none."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return 0, {}
    except OSError as error:
        raise MapUnavailable(f"cannot read {path}: {error}") from error
    found = _FRAME.fullmatch(raw)
    if found is None:
        raise MapCorrupt(f"{path} is damaged, or no cluster map at all")
    if int(found["format"]) != FORMAT:
        raise MapCorrupt(f"{path} has format {int(found['format'])}, only {FORMAT} is known here")
    if hashlib.sha256(found["map"]).hexdigest().encode() != found["sha256"]:
        raise MapCorrupt(f"{path} is damaged: content and checksum do not belong together")
    return _parse(found["map"])


def store(path: Path, revision: int, entries: Entries) -> None:
    """Replace the map file, durably; it is the old one or the new one at any instant.

    Raises MapUnavailable, after which it may be either.
    """
    scratch = path.with_name(path.name + ".tmp")
    try:
        _write(scratch, _text(revision, entries))
        os.replace(scratch, path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise MapUnavailable(f"cannot write {path}: {error}") from error


def _write(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)  # a torn one of a crash, perhaps with other permissions
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with open(os.open(path, flags, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _text(revision: int, entries: Entries) -> bytes:
    # surrogateescape: values are bytes, nearly always text; this keeps text legible, and is exact.
    content = {
        "entries": {
            key: [held.revision, held.value.decode("utf-8", "surrogateescape")]
            for key, held in entries.items()
        },
        "revision": revision,
    }
    body = json.dumps(content, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(body.encode()).hexdigest()
    return f'{{"format":{FORMAT},"sha256":"{digest}","map":{body}}}\n'.encode()


def _parse(body: bytes) -> tuple[int, Entries]:
    try:
        content = json.loads(body)
        entries = {
            key: Versioned(value.encode("utf-8", "surrogateescape"), _revision(revision))
            for key, (revision, value) in content["entries"].items()
        }
        return _revision(content["revision"]), entries
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise MapCorrupt(
            f"the map file's content is none: {type(error).__name__}: {error}"
        ) from None


def _revision(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is no revision")
    return value
