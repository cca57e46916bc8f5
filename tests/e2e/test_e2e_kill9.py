"""kill -9 under load: SEQ-1, SEQ-2, SEQ-4 and ROUTE-1 over every crash, by recorded history."""

import asyncio
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import seqsvr
from processes import SMALL, Service, Services, environment, free_port, seqctl
from processes.recorded import recorded

STEP = 10_000
# Two of one section, its last one and the next one's first, and two of the last section.
SMALL_UIDS = [0, 1, 99_999, 100_000, 555_555, SMALL - 100_000, SMALL - 1]
FULL_UIDS = [0, 99_999, 100_000, 2**31, 2**32 - 1]

# The service on a disk that takes its time for every commit.
SLOW_DISK = """
import sys, time
from seqctl.__main__ import main
from storesvr.engine import LmdbEngine

commit = LmdbEngine.commit
def slow(self, batch):
    time.sleep(0.1)
    commit(self, batch)
LmdbEngine.commit = slow
sys.exit(main(sys.argv[1:]))
"""


class Hammers:
    """Two client processes that call without end."""

    def __init__(self, address: str, folder: Path, uids: list[int]) -> None:
        self._folder = folder
        self._processes = [self._hammer(address, name, uids) for name in ("first", "second")]

    def _hammer(self, address: str, name: str, uids: list[int]) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "processes.hammer", "--addr", address, "--name", name]
        command += ["--history", str(self._folder), *map(str, uids)]
        with (self._folder / f"{name}.err").open("wb") as error:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=error,
                env=environment(),
                text=True,
            )

    @property
    def histories(self) -> list[Path]:
        return sorted(self._folder.glob("*-*.jsonl"))

    def answered(self) -> list[int]:
        """How many calls each process had answered."""
        files = (self._folder / f"{name}.progress" for name in ("first", "second"))
        return [int(file.read_text()) if file.exists() else 0 for file in files]

    def wait_for(self, more: int) -> None:
        """Until each of them was answered so many calls more."""
        before, deadline_s = self.answered(), time.monotonic() + 30
        while not all(b + more <= now for b, now in zip(before, self.answered(), strict=True)):
            assert time.monotonic() < deadline_s, "clients do not find the service again"
            assert all(process.poll() is None for process in self._processes), self.complaints()
            time.sleep(0.01)

    def finish(self) -> list[dict[str, object]]:
        """End them in an orderly way; what each of them did."""
        said = [process.communicate(timeout=60)[0] for process in self._processes]
        assert [process.returncode for process in self._processes] == [0, 0], self.complaints()
        return [json.loads(text) for text in said]

    def complaints(self) -> str:
        return "".join(file.read_text() for file in self._folder.glob("*.err"))

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()


@contextmanager
def hammering(address: str, folder: Path, uids: list[int]) -> Iterator[Hammers]:
    folder.mkdir()
    hammers = Hammers(address, folder, uids)
    try:
        yield hammers
    finally:
        hammers.close()


def killed_again_and_again(service: Service, hammers: Hammers, rounds: int) -> None:
    """Every third time it is killed while it is leaving, its sections half released."""
    for turn in range(rounds):
        hammers.wait_for(more=10)
        time.sleep(random.uniform(0, 0.15))
        assert service.runs_still()
        if turn % 3 == 2:
            service.process.terminate()
            time.sleep(random.uniform(0, 0.06))
        service.kill()
        service.start()
    hammers.wait_for(more=10)


def proved_by_history(
    service: Service, hammers: Hammers, folder: Path, uids: list[int], rounds: int
) -> None:
    done = hammers.finish()
    own = folder / "last.jsonl"
    before = recorded(hammers.histories)
    with seqsvr.Client(service.address, history=own) as client:
        last = {uid: client.next(uid) for uid in uids}
    histories = [*hammers.histories, own]
    checked = seqctl("check", "--complete", "-o", "json", *histories)
    figures = json.loads(checked.stdout)
    print({name: figures[name] for name in ("calls", "failed", "numbers", "gaps")}, done)
    # The promises were kept,
    assert checked.returncode == 0, checked.stdout[:2000]
    assert figures["violations"] == []
    assert figures["torn"] == 0
    # by eight clients that were really served, through really many owners.
    assert len(hammers.histories) == 8
    assert all(path.stat().st_size for path in hammers.histories)
    assert figures["numbers"] >= 1000 * rounds
    assert figures["uids"] == len(uids)
    assert len(before.epochs) >= rounds + 1
    assert before.exact and before.ceilings
    assert set(before.highest) == set(uids)
    assert all(last[uid] > before.highest[uid] for uid in uids)
    # SEQ-5: a crash costs at most the window, which is never above a step and the largest range.
    sizes = {uid: last[uid] for uid in uids}
    assert max(sizes.values()) <= figures["numbers"] + rounds * 3 * STEP


def the_check_would_have_seen_a_number_twice(hammers: Hammers, folder: Path) -> None:
    """The negative of all this: one answer more, of a number that is out already."""
    for line in hammers.histories[0].read_text().splitlines():
        call = json.loads(line)
        if call["op"] == "next" and call["error"] is None:
            break
    late = time.monotonic_ns()
    forged = folder / "forged.jsonl"
    forged.write_text(json.dumps({**call, "call_ns": late, "return_ns": late + 1}) + "\n")
    checked = seqctl("check", *hammers.histories, forged)
    assert checked.returncode == 1, checked.stdout
    assert "SEQ-2" in checked.stdout


def test_fifty_kills_under_eight_clients_break_no_promise(
    services: Services, tmp_path: Path
) -> None:
    service = services(port=free_port()).start()
    folder = tmp_path / "histories"
    with hammering(service.address, folder, SMALL_UIDS) as hammers:
        killed_again_and_again(service, hammers, 50)
        proved_by_history(service, hammers, folder, SMALL_UIDS, 50)


def test_five_kills_with_the_full_uid_space_break_no_promise(
    services: Services, tmp_path: Path
) -> None:
    service = services(port=free_port(), uid_limit=None).start()
    folder = tmp_path / "histories"
    with hammering(service.address, folder, FULL_UIDS) as hammers:
        killed_again_and_again(service, hammers, 5)
        proved_by_history(service, hammers, folder, FULL_UIDS, 5)
        the_check_would_have_seen_a_number_twice(hammers, folder)


async def test_a_kill_in_a_burst_that_outruns_the_raises_repeats_nothing(
    services: Services, tmp_path: Path
) -> None:
    """SEQ-3: what was answered was durable before, also where the disk is slower than callers."""
    service = services(port=free_port(), python=["-c", SLOW_DISK])
    histories = [tmp_path / f"burst-{turn}.jsonl" for turn in range(6)]

    async def burst(client: seqsvr.AsyncClient, answered: asyncio.Event) -> None:
        while True:
            await client.next_range(7, 10_000)
            answered.set()

    for turn, history in enumerate(histories):
        service.start()
        async with seqsvr.AsyncClient(service.address, history=history) as client:
            await client.next(7)
            answered = asyncio.Event()
            tasks = [asyncio.create_task(burst(client, answered)) for _ in range(16)]
            async with asyncio.timeout(10):
                await answered.wait()
            await asyncio.sleep(0.03 * turn)
            service.kill()
            await asyncio.sleep(0.05)  # for what is on its way
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    service.start()
    found = recorded(histories)
    with seqsvr.Client(service.address) as last:
        assert last.next(7) > found.highest[7]
    checked = seqctl("check", "--complete", *histories)
    assert checked.returncode == 0, checked.stdout
    assert found.numbers > 100_000
    assert len(found.epochs) == len(histories)
