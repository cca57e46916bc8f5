"""A message service in small: every inbox is a timeline, numbered by seqsvr.

A message is stored in an inbox under the inbox's next number; a device remembers the last number
that it has, and pulls what is newer. That is right only if nothing is ever stored below a number
that a device may have seen. Two rules see to it, both in `Inboxes.append`:

1. An inbox grows at its end only. A number comes before it is used, so whoever took 10 may want to
   store after 11 is there. Then 10 is thrown away, which is legal, and the message gets another.
2. An inbox takes a message once. Whoever does not know what became of a message sends it again.

Both are decided where the messages are, in the transaction that stores them: they hold for any
number of service processes, whichever of them dies and when. No lock is held while a number is on
its way, and nobody waits for a number that will never be used.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import seqsvr

PAGE = 100

_SCHEMA = """
CREATE TABLE IF NOT EXISTS inbox (uid INTEGER PRIMARY KEY, head INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS message (
    inbox INTEGER, seq INTEGER, id TEXT NOT NULL,
    sender INTEGER NOT NULL, recipient INTEGER NOT NULL, text TEXT NOT NULL,
    PRIMARY KEY (inbox, seq), UNIQUE (inbox, id)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Message:
    """id: its sender's choice, unique for ever; the same whenever it is sent again."""

    id: str
    sender: int
    recipient: int
    text: str


class Stored(NamedTuple):
    """A message in an inbox."""

    seq: int
    message: Message


class Timeline:
    """One process of the service; any number of them share the file.

    on_stored(uid): called when an inbox has something new, for whoever holds the devices'
    connections.
    """

    def __init__(
        self, seqs: seqsvr.AsyncClient, file: Path, on_stored: Callable[[int], None]
    ) -> None:
        self.thrown_away = 0  # numbers that came too late to be used
        self._seqs = seqs
        self._on_stored = on_stored
        self._inboxes = Inboxes(file)
        self._reader = _connected(file)
        self._queue: list[tuple[int, int, Message, asyncio.Future[bool]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def send(self, message: Message) -> None:
        """Returns when it is in the inboxes of both; raises seqsvr.SeqError if it may not be.

        To send it again, here or elsewhere, is always safe, and up to the caller.
        """
        await asyncio.gather(
            *(self._put(uid, message) for uid in {message.recipient, message.sender})
        )

    def newer(self, uid: int, after: int) -> list[Stored]:
        """The next messages of an inbox above number `after` (0: from the start), at most PAGE."""
        rows = self._reader.execute(
            "SELECT seq, id, sender, recipient, text FROM message"
            " WHERE inbox = ? AND seq > ? ORDER BY seq LIMIT ?",
            (uid, after, PAGE),
        )
        return [Stored(seq, Message(*fields)) for seq, *fields in rows]

    async def aclose(self) -> None:
        """Wait for what is being written."""
        while self._writing is not None:
            await self._writing
        self._inboxes.close()
        self._reader.close()

    async def _put(self, uid: int, message: Message) -> None:
        while not await self._append(uid, await self._seqs.next(uid), message):
            self.thrown_away += 1
        self._on_stored(uid)

    def _append(self, uid: int, seq: int, message: Message) -> "asyncio.Future[bool]":
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._queue.append((uid, seq, message, done))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        return done

    async def _write(self) -> None:
        """One durable commit for all that has come while the one before it was made."""
        while self._queue:
            batch, self._queue = self._queue, []
            try:
                found = await asyncio.to_thread(self._inboxes.append, [row[:3] for row in batch])
            except Exception as error:  # noqa: BLE001 - whatever it is, the senders are to know
                for *_, done in batch:
                    if not done.done():
                        done.set_exception(OSError(f"not stored: {error}"))
                continue
            for (*_, done), stored in zip(batch, found, strict=True):
                if not done.done():
                    done.set_result(stored)
        self._writing = None


class Inboxes:
    """The writer's side of the file."""

    def __init__(self, file: Path) -> None:
        self._file = _connected(file)
        self._file.executescript(_SCHEMA)

    def append(self, rows: list[tuple[int, int, Message]]) -> list[bool]:
        """Durable when it returns. False: that number is too low by now; the message needs another.

        Not max(seq) of the messages: what a user deletes must not let the end of an inbox fall.
        """
        self._file.execute("BEGIN IMMEDIATE")
        try:
            found = [self._append(*row) for row in rows]
            self._file.execute("COMMIT")
        finally:
            if self._file.in_transaction:
                self._file.execute("ROLLBACK")
        return found

    def _append(self, uid: int, seq: int, message: Message) -> bool:
        if self._holds(uid, message):
            return True
        if not self._is_at_its_end(uid, seq):
            return False
        row = (uid, seq, message.id, message.sender, message.recipient, message.text)
        self._file.execute("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?)", row)
        return True

    def _holds(self, uid: int, message: Message) -> bool:
        asked = "SELECT 1 FROM message WHERE inbox = ? AND id = ?"
        return self._file.execute(asked, (uid, message.id)).fetchone() is not None

    def _is_at_its_end(self, uid: int, seq: int) -> bool:
        """Whether seq is above all that the inbox ever had; if so, that is its end now."""
        moved = self._file.execute(
            "INSERT INTO inbox VALUES (?, ?) ON CONFLICT (uid)"
            " DO UPDATE SET head = excluded.head WHERE excluded.head > head",
            (uid, seq),
        )
        return moved.rowcount == 1

    def close(self) -> None:
        self._file.close()


def _connected(file: Path) -> sqlite3.Connection:
    """With transactions as they are written, and commits that outlive a power cut."""
    connection = sqlite3.connect(file, timeout=60, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection
