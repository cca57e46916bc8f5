"""Blocking clients, called by threads."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from seqbench.drivers import TIMEOUT_S
from seqbench.window import POLL_S, Window
from seqsvr import Client

Take = Callable[[int], object]


@contextlib.contextmanager
def blocking_seqsvr(address: str) -> Iterator[Take]:
    with Client(address, timeout=TIMEOUT_S) as client:
        yield client.next


@contextlib.contextmanager
def blocking_redis(address: str) -> Iterator[Take]:
    """One connection per thread, out of redis-py's own pool."""
    from redis import Redis

    host, port = address.split(":")
    with Redis(host, int(port)) as client:
        yield lambda uid: client.incr(f"seq:{uid}")


BLOCKING = {"coalesced": blocking_seqsvr, "redis": blocking_redis}


def threads(
    take: Take, shares: Sequence[Sequence[int]], window: Window, warm_s: float, seconds: float
) -> dict[str, Any]:
    """The figures of as many threads as there are shares."""
    failures: list[BaseException] = []
    running = [
        threading.Thread(target=_caller, args=(take, share, window, failures)) for share in shares
    ]
    for thread in running:
        thread.start()
    time.sleep(warm_s)
    window.open()
    time.sleep(seconds)
    while window.lacks and not failures:
        time.sleep(POLL_S)
    figures = window.close()
    for thread in running:
        thread.join()
    if failures:
        raise failures[0]
    return figures


def _caller(
    take: Take, share: Sequence[int], window: Window, failures: list[BaseException]
) -> None:
    now, done = time.perf_counter_ns, window.samples.append
    try:
        while True:
            for uid in share:
                began = now()
                take(uid)
                done(now() - began)
                if window.over:
                    return
    except Exception as error:  # noqa: BLE001 - raised again where the threads are joined
        failures.append(error)
