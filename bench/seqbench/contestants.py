"""Who is measured, what each of them guarantees, and how it is started."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from seqbench.ours import Cluster, Embedded
from seqbench.peers import BareServer, EtcdServer, Peer, Postgres, RedisServer
from seqbench.processes import Missing


@dataclass(frozen=True, slots=True)
class Promise:
    """What is guaranteed: when a number that was answered is safe, whether numbers of a uid rise
    in the order of calls, and what happens when the server dies; short: all of it in a few words.
    """

    durable: str
    ordered: str
    dies: str
    short: str


@dataclass(frozen=True, slots=True)
class Contestant:
    """driver: who calls it (drivers.py); needs: Python modules of its client."""

    name: str
    title: str
    driver: str
    promise: Promise
    made: Callable[[Path], Peer]
    loop: str = "asyncio"
    needs: tuple[str, ...] = ()

    def start(self, folder: Path) -> Peer:
        """Serve. Raises Missing where this machine has not what it takes."""
        for module in (*self.needs, *(["uvloop"] if self.loop == "uvloop" else [])):
            if importlib.util.find_spec(module) is None:
                raise Missing(f"no module {module}: pip install '.[bench,fast]'")
        peer = self.made(folder)
        try:
            peer.start()
        except BaseException:
            peer.stop()
            raise
        return peer


NOTHING = Promise("nothing is stored", "none: it does no work", "nothing is left", "nothing")
EMBEDDED = Promise(
    "a window of numbers is fsynced before any of it is handed out",
    "rising per uid, also across a restart",
    "serves again after a restart, no fail-over",
    "durable, ordered",
)
CLUSTER = Promise(
    "a window of numbers is fsynced on 2 of 3 replicas before any of it is handed out",
    "rising per uid, also across owners",
    "another node takes over by itself (here a single one runs)",
    "durable on 2 of 3, ordered, fail-over",
)
REDIS_ALWAYS = Promise(
    "fsync before each answer",
    "rising per uid, also across a restart",
    "serves again after a restart, no fail-over",
    "durable, ordered",
)
REDIS_EVERYSEC = Promise(
    "fsync once a second",
    "rising per uid until a crash: after it, numbers of the last second repeat",
    "serves again after a restart, no fail-over",
    "not durable; may repeat",
)
POSTGRES = Promise(
    "fsync before each answer, many in one",
    "rising per uid, also across a restart",
    "serves again after a restart, no fail-over",
    "durable, ordered",
)
ETCD = Promise(
    "fsync before each answer, many in one",
    "rising per uid, also across a restart",
    "one member here: no fail-over; three would have it",
    "durable, ordered",
)

_ALL = (
    Contestant(
        "limit", "bare grpc.aio server", "coalesced", NOTHING, lambda f: BareServer(f, "asyncio")
    ),
    Contestant(
        "embedded",
        "seqsvr, embedded",
        "coalesced",
        EMBEDDED,
        lambda f: Embedded(f, "asyncio"),
    ),
    Contestant(
        "embedded-tls",
        "seqsvr, embedded, TLS with client certificates",
        "coalesced",
        EMBEDDED,
        lambda f: Embedded(f, "asyncio", tls=True),
    ),
    Contestant("cluster", "seqsvr, 3 replicas", "coalesced", CLUSTER, Cluster),
    Contestant(
        "redis-always",
        "Redis INCR, fsync always",
        "redis",
        REDIS_ALWAYS,
        lambda f: RedisServer(f, "always"),
        needs=("redis", "hiredis"),
    ),
    Contestant(
        "redis-everysec",
        "Redis INCR, fsync each second",
        "redis",
        REDIS_EVERYSEC,
        lambda f: RedisServer(f, "everysec"),
        needs=("redis", "hiredis"),
    ),
    Contestant("postgres", "PostgreSQL upsert", "postgres", POSTGRES, Postgres, needs=("psycopg",)),
    Contestant("etcd", "etcd put", "etcd", ETCD, lambda f: EtcdServer(f, "etcd-peer")),
    Contestant(
        "limit-uvloop",
        "bare grpc.aio server, uvloop",
        "coalesced",
        NOTHING,
        lambda f: BareServer(f, "uvloop"),
        "uvloop",
    ),
    Contestant(
        "embedded-uvloop",
        "seqsvr, embedded, uvloop",
        "coalesced",
        EMBEDDED,
        lambda f: Embedded(f, "uvloop"),
        "uvloop",
    ),
    Contestant(
        "redis-always-uvloop",
        "Redis INCR, fsync always, uvloop",
        "redis",
        REDIS_ALWAYS,
        lambda f: RedisServer(f, "always"),
        "uvloop",
        ("redis", "hiredis"),
    ),
)
CONTESTANTS = {contestant.name: contestant for contestant in _ALL}
