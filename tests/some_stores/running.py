"""Replicas as processes of their own."""

import subprocess
import sys
import time
from pathlib import Path

from processes import ROOT, environment, free_port

READY_S = 60.0


class RunningStores:
    """Three storesvr processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.addresses = [f"127.0.0.1:{free_port()}" for _ in range(3)]
        self.processes = [self._start(index) for index in range(3)]
        for index, process in enumerate(self.processes):
            deadline_s = time.monotonic() + READY_S
            while "ready" not in (folder / f"{index}.out").read_text():
                assert process.poll() is None, (folder / f"{index}.err").read_text()
                assert time.monotonic() < deadline_s, "not ready"
                time.sleep(0.01)

    @property
    def option(self) -> str:
        return f"set-0={','.join(self.addresses)}"

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()

    def _start(self, index: int) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "storesvr", "--data", str(self._folder / f"data-{index}")]
        command += ["--cluster", "c1", "--replica", f"store-{index}", "--create"]
        command += ["--listen", self.addresses[index], "--map-size-gb", "1"]
        command += ["--section-size", "1000", "--uid-limit", "30000"]
        with (
            (self._folder / f"{index}.out").open("wb") as out,
            (self._folder / f"{index}.err").open("wb") as err,
        ):
            return subprocess.Popen(
                command, stdout=out, stderr=err, env=environment(), cwd=ROOT, start_new_session=True
            )
