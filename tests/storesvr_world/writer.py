"""A process that raises and reports each acknowledgement, until it is killed or cannot go on.

    python -m storesvr_world.writer DIR ROUNDS WHERE

Prints `ack SECTION MAX_SEQ` after each. Before round ROUNDS is acknowledged it kills itself at
WHERE: `stage` before anything is staged, `commit` before the commit, `committed` between commit and
acknowledgement, `ack` after the acknowledgement, `witness` between LMDB's commit and the witness;
`never`: it goes on, with snapshots that fill a disk.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from storesvr.directory import Directory
from storesvr.engine import LmdbEngine
from storesvr.replica import Replica
from storesvr.service import StoreService, open_service
from storesvr_world import IDENTITY, A, fence, raising, release


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_before(owner: type, name: str) -> None:
    setattr(owner, name, die)


def die_after(owner: type, name: str) -> None:
    method: Callable[..., Any] = getattr(owner, name)

    def both(*args: Any) -> None:
        method(*args)
        die()

    setattr(owner, name, both)


TRAPS: dict[str, Callable[[], None]] = {
    "stage": lambda: die_before(Replica, "raise_max"),
    "commit": lambda: die_before(LmdbEngine, "commit"),
    "witness": lambda: die_before(Directory, "note"),
    "committed": lambda: die_after(LmdbEngine, "commit"),
    "ack": lambda: None,
    "never": lambda: None,
}


async def write(service: StoreService, rounds: int, where: str) -> None:
    sections = range(8)
    await service.fence(fence(0, 7, 1))
    print("open", flush=True)
    for step in range(1, rounds + 1):
        if step == rounds:
            TRAPS[where]()
        section = step % len(sections)
        await service.raise_max(raising(A, (section, 1, 1000 * step)))
        print("ack", section, 1000 * step, flush=True)
        if where == "never":
            big = 100 + step
            await service.fence(fence(big, big, 1))
            await service.raise_max(raising(A, (big, 1, 7)))
            await service.release(release(A, (big, 1, os.urandom(100_000))))
    if where == "ack":
        die()


async def main() -> None:
    path, rounds, where = sys.argv[1:]
    service = open_service(Path(path), IDENTITY, create=True)
    await write(service, int(rounds), where)


if __name__ == "__main__":
    asyncio.run(main())
