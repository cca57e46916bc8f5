"""A process of its own that registers a key and stands for an election, until it is killed."""

import asyncio
import subprocess
import sys

from clustermap.etcd import EtcdCoordinator, EtcdOptions
from processes.commands import ROOT, environment

_START_S = 60.0


class Holder:
    """A context manager: the process runs, holds `key` and leads `election`."""

    def __init__(self, endpoints: tuple[str, ...], prefix: str, key: str, election: str) -> None:
        self._arguments = [",".join(endpoints), prefix, key, election]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Holder":
        self._process = subprocess.Popen(
            [sys.executable, "-m", "etcd_servers.holder", *self._arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=environment(),
            cwd=ROOT,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line != b"holds\n":
            self.kill()
            raise AssertionError(f"the holder said {line!r}")
        return self

    def __exit__(self, *raised: object) -> None:
        self.kill()

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


async def hold(endpoints: str, prefix: str, key: str, election: str) -> None:
    options = EtcdOptions(tuple(endpoints.split(",")), prefix=prefix)
    coordinator = await EtcdCoordinator.open(options)
    async with asyncio.timeout(_START_S):
        await coordinator.register(key, b"holder", 2.0)
        await coordinator.elect(election, b"holder")
    print("holds", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    asyncio.run(hold(*sys.argv[1:]))


if __name__ == "__main__":
    main()
