"""A parent and its workers: all ready, all restarted, all ended, whatever ends the parent."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from processes import environment
from svrprocess.workers import Workers

# A worker says where it is by a file: FOLDER/INDEX holds its pid. HOW is what it does.
WORKER = """
import asyncio, os, pathlib, sys
from svrprocess import program
from svrprocess.signals import Stop
from svrprocess.workers import end_with_input

async def serve(args):
    stop = Stop.on_signals()
    watching = asyncio.create_task(end_with_input(stop))
    folder, index, how = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    lives = folder / f"{index}.lives"
    lives.write_text(lives.read_text() + "x" if lives.exists() else "x")
    if how == "refuses" or how == "refuses-later" and lives.read_text() != "x":
        return 3
    (folder / index).write_text(str(os.getpid()))
    print(f"ready host:{index}", flush=True)
    await stop.wait()
    if how == "hangs":
        await asyncio.sleep(3600)
    watching.cancel()
    return 5 if how == "five" else 0

sys.exit(program.run(serve(None)))
"""
PARENT = """
import sys
from svrprocess import program
from svrprocess.signals import Stop
from svrprocess.workers import Workers

async def serve(args):
    commands = [
        [sys.executable, "-c", sys.argv[1], sys.argv[2], str(index), how]
        for index, how in enumerate(sys.argv[4:])
    ]
    workers = Workers(commands, float(sys.argv[3]))
    return await workers.run(Stop.on_signals(workers.kill), lambda: program.announce("all"))

sys.exit(program.run(serve(None)))
"""


class Family:
    """A parent with one worker per word of `how`; loop: the event loop of all of them."""

    def __init__(self, folder: Path, loop: str) -> None:
        self.folder = folder
        self._loop = loop
        self._seen: set[int] = set()
        self._errors = folder / "stderr"
        self.process: subprocess.Popen[str]

    def start(self, *how: str, grace_s: float = 60.0) -> "Family":
        with self._errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PARENT, WORKER, str(self.folder), str(grace_s), *how],
                env={**environment(), "SEQSVR_LOOP": self._loop},
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        return self

    def ready(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready all\n", self.log()

    def pid(self, index: int) -> int:
        """Of the worker's present life; 0: none is known."""
        file = self.folder / str(index)
        pid = int(file.read_text() or 0) if file.exists() else 0
        self._seen.add(pid)
        return pid

    def lives(self, index: int) -> int:
        file = self.folder / f"{index}.lives"
        return len(file.read_text()) if file.exists() else 0

    def wait(self) -> int:
        out, _ = self.process.communicate(timeout=60)
        assert out == "", "one line and nothing else"
        return self.process.returncode

    def log(self) -> str:
        return self._errors.read_text()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        pids = {int(pid) for pid in re.findall(r"event=worker_started .*pid=(\d+)", self.log())}
        pids = (pids | self._seen) - {0}
        try:
            eventually(lambda: not any(map(alive, pids)), "an end of all")
        finally:
            for pid in filter(alive, pids):
                os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def eventually(holds: Callable[[], object], what: str) -> None:
    deadline_s = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline_s, f"in vain: {what}"
        time.sleep(0.01)


@pytest.fixture(params=["asyncio", "uvloop"])
def family(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Family]:
    """Whatever a test does to the parent, no worker is left; that is checked for every test."""
    made = Family(tmp_path, request.param)
    yield made
    made.close()


def test_a_parent_is_ready_once_all_workers_are_and_stops_with_them(family: Family) -> None:
    family.start("serves", "serves", "serves").ready()
    assert all(alive(family.pid(index)) for index in range(3))
    family.process.terminate()
    assert family.wait() == 0, family.log()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_group_is_one_stop_only(family: Family, number: int) -> None:
    family.start("serves", "serves").ready()
    pids = [family.pid(0), family.pid(1)]
    family.process.send_signal(number)
    for pid in pids:  # as a supervisor does that signals every process of a service
        if alive(pid):
            os.kill(pid, number)
    assert family.wait() == 0, family.log()


def test_a_signal_to_the_group_of_the_parent_is_the_parents_alone(family: Family) -> None:
    """Ctrl-C is sent so: to a worker that is just starting it would be a crash."""
    family.start("serves", "serves").ready()
    groups = {os.getpgid(family.pid(index)) for index in range(2)}
    assert groups == {family.pid(0), family.pid(1)}
    os.killpg(family.process.pid, signal.SIGINT)
    assert family.wait() == 0, family.log()


def test_a_worker_that_was_killed_is_started_again(family: Family) -> None:
    family.start("serves", "serves").ready()
    first, other = family.pid(0), family.pid(1)
    os.kill(first, signal.SIGKILL)
    eventually(lambda: family.pid(0) not in (0, first), "another life of worker 0")
    assert family.pid(1) == other and alive(other)
    assert "event=worker_ended worker=0 code=137" in family.log()
    family.process.terminate()
    assert family.wait() == 0, family.log()


def test_no_worker_outlives_a_parent_that_was_killed(family: Family) -> None:
    family.start("serves", "serves").ready()
    pids = [family.pid(0), family.pid(1)]
    family.process.kill()
    family.wait()
    eventually(lambda: not any(alive(pid) for pid in pids), "an end of the workers")
    assert family.log().count("event=parent_ended_or_stops") == 2


def test_the_worst_code_of_the_workers_is_the_parents(family: Family) -> None:
    family.start("serves", "five", "serves").ready()
    family.process.terminate()
    assert family.wait() == 5, family.log()


def test_a_worker_that_cannot_start_ends_the_parent_with_its_code(family: Family) -> None:
    family.start("serves", "refuses")
    assert family.wait() == 3, family.log()
    assert family.lives(1) == 1


def test_a_worker_that_cannot_start_again_is_tried_again(family: Family) -> None:
    """Its port may still be another's for a moment."""
    family.start("serves", "refuses-later").ready()
    os.kill(family.pid(1), signal.SIGKILL)
    eventually(lambda: family.lives(1) >= 4, "several lives")
    assert family.process.poll() is None
    family.process.terminate()
    assert family.wait() in (0, 3), family.log()


def test_a_worker_that_does_not_stop_is_killed(family: Family) -> None:
    family.start("serves", "hangs", grace_s=0.5).ready()
    family.process.terminate()
    assert family.wait() == 137, family.log()
    assert "event=worker_killed worker=1" in family.log()


async def test_one_that_has_ended_keeps_no_other_from_being_killed() -> None:
    """asyncio says that it has, by an error, before the parent has seen its end."""
    workers = Workers([], 1.0)
    ended, other = Mock(**{"kill.side_effect": ProcessLookupError}), Mock()
    workers._live = {0: ended, 1: other}
    workers.kill()
    assert ended.kill.called and other.kill.called


def test_a_second_signal_ends_all_at_once(family: Family) -> None:
    family.start("serves", "hangs").ready()
    family.process.terminate()
    eventually(lambda: not alive(family.pid(0)), "a stop of the one that can")
    assert alive(family.pid(1))
    family.process.terminate()
    assert family.wait() == 128 + signal.SIGTERM, family.log()
