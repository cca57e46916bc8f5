"""A full disk ends the service before it acknowledges anything; nothing is lost by it (SEQ-3)."""

import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from processes import Service, Services
from processes.calls import Plain, plain
from processes.tmpfs import Namespace

SECTION = 100_000
SECTIONS = 8_000  # two batches take a number in each
SIZE_MB = 16


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[tuple[Namespace, Path]]:
    """A namespace, and a directory that is a small file system there."""
    disk = tmp_path / "disk"
    disk.mkdir()
    namespace = Namespace(f"mount -t tmpfs -o size={SIZE_MB}m,mode=0700 tmpfs {disk}")
    try:
        yield namespace, disk
    finally:
        namespace.close()


def take_until_it_fails(
    calls: Plain, highest: dict[int, int], *, rounds: int, count: int = 6_000
) -> bool:
    """Numbers in many sections at once, so that many are raised; False: it did not fail."""
    for turn in range(rounds):
        uids = [section * SECTION + 7 for section in range(turn % 2, SECTIONS, 2)]
        try:
            firsts = calls.next_many(uids, [count] * len(uids))
        except grpc.RpcError:
            return True
        for uid, number in zip(uids, firsts, strict=True):
            assert number > highest.get(uid, 0)
            highest[uid] = number + count - 1
    return False


def test_a_full_disk_ends_the_service_and_room_brings_it_back(
    services: Services, small_disk: tuple[Namespace, Path]
) -> None:
    namespace, disk = small_disk
    highest: dict[int, int] = {}
    service: Service = services(
        data=disk / "data", uid_limit=SECTIONS * SECTION, before=namespace.entering
    )
    service.may_trace = True
    service.start()
    with plain(service.address) as calls:
        # Little enough that nothing is raised: the file has not grown to its final size yet.
        assert not take_until_it_fails(calls, highest, count=100, rounds=2), service.stderr()
        namespace.fill(disk / "filler")
        assert calls.next(7) == 101, "what is in memory is served without the disk"
        highest[7] = 101
        assert take_until_it_fails(calls, highest, rounds=50), "a full disk was never noticed"
    assert service.wait() == 70, service.stderr()
    critical = [line for line in service.stderr().splitlines() if "CRITICAL" in line]
    assert len(critical) == 1, service.stderr()
    assert "store write failed" in critical[0] and "its disk is full" in critical[0]

    # As long as there is no room it does not serve, and says why; with room, it does.
    service.spawn()
    deadline_s = time.monotonic() + 30
    while service.runs_still() and "No space left" not in service.stderr():
        assert time.monotonic() < deadline_s, "it neither ends nor says what it waits for"
        time.sleep(0.01)
    time.sleep(0.3)
    assert not service.is_ready(), "it serves on a full disk"
    assert "No space left" in service.stderr()
    waits = service.runs_still()
    assert namespace.run("rm", str(disk / "filler")).returncode == 0
    if waits:
        service.wait_ready()
    else:
        assert service.wait() in (3, 70)
        service.start()
    with plain(service.address) as calls:
        for uid, last in list(highest.items())[::40]:
            assert calls.current(uid)[0] >= last
            assert calls.next(uid) > last
        # All of them, at once.
        assert not take_until_it_fails(calls, highest, rounds=2)
    assert service.terminate() == 0
