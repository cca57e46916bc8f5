"""A data directory that is not what it was is refused, and is never read as an empty one."""

import os
import random
import shutil
import signal
import stat
import struct
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from processes import Service, Services, free_port
from processes.calls import plain
from processes.tmpfs import Namespace

TAKEN = 25


def used(services: Services) -> Service:
    """A service that handed out TAKEN numbers of uid 7 and has ended in an orderly way."""
    service = services(port=free_port()).start()
    with plain(service.address) as calls:
        assert calls.next(7, TAKEN) == 1
        assert calls.next(999_999) == 1
    assert service.terminate() == 0
    return service


def refused(service: Service) -> str:
    """Start a service that must not serve: the one line that it ends with."""
    service.spawn()
    assert service.wait() == 3, service.stderr()
    assert service.stdout() == ""
    lines = [line for line in service.stderr().splitlines() if line.startswith("seqctl up: ")]
    assert len(lines) == 1, service.stderr()
    return lines[0]


def goes_on_densely(service: Service) -> None:
    service.start()
    with plain(service.address) as calls:
        assert calls.next(7) == TAKEN + 1


def test_the_store_of_another_cluster_is_refused(services: Services) -> None:
    ours, other = used(services), used(services)
    kept = ours.data.with_name("kept")
    (ours.data / "store").rename(kept)
    shutil.copytree(other.data / "store", ours.data / "store")
    line = refused(ours)
    assert "store" in line and "cluster" in line
    shutil.rmtree(ours.data / "store")
    kept.rename(ours.data / "store")
    goes_on_densely(ours)


def _without_store(data: Path) -> None:
    shutil.rmtree(data / "store")


def _with_an_empty_store(data: Path) -> None:
    shutil.rmtree(data / "store")
    (data / "store").mkdir(mode=0o700)


def _without_data_file(data: Path) -> None:
    (data / "store" / "data.mdb").unlink()


def _with_an_empty_data_file(data: Path) -> None:
    os.truncate(data / "store" / "data.mdb", 0)


def _with_half_a_data_file(data: Path) -> None:
    file = data / "store" / "data.mdb"
    os.truncate(file, file.stat().st_size // 2)


def _without_witness(data: Path) -> None:
    (data / "store" / "witness").unlink()


@pytest.mark.parametrize(
    "lose",
    [
        _without_store,
        _with_an_empty_store,
        _without_data_file,
        _with_an_empty_data_file,
        _with_half_a_data_file,
        _without_witness,
    ],
)
def test_a_store_that_was_lost_is_refused_and_never_starts_at_0(
    services: Services, lose: Callable[[Path], None]
) -> None:
    """NRW-2: not found is not 0."""
    service = used(services)
    lose(service.data)
    line = refused(service)
    assert "store" in line
    # Nor does a second try make a new one.
    assert refused(service)


def _flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        _flipped,
        lambda file: file.write_bytes(file.read_bytes()[:-20]),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_text('{"format":1}\n'),
        lambda file: file.unlink(),
    ],
    ids=["flipped", "cut short", "empty", "other json", "missing"],
)
def test_a_damaged_map_is_refused(services: Services, damage: Callable[[Path], object]) -> None:
    service = used(services)
    file = service.data / "map.json"
    before = file.read_bytes()
    damage(file)
    assert "map" in refused(service)
    file.write_bytes(before)
    goes_on_densely(service)


def _flip_all(content: bytearray, value: bytes, offset: int) -> None:
    """Flip a bit in every copy of a value: LMDB keeps old pages beside the one that counts."""
    places = [at for at in range(len(content)) if content.startswith(value, at)]
    assert places
    for place in places:
        content[place + offset] ^= 1


def _record(content: bytearray) -> None:
    # max_seq of section 0, the section of the uid that is asked for
    _flip_all(content, b"SQRC" + struct.pack(">H", 1), 47)


def _snapshot(content: bytearray) -> None:
    _flip_all(content, b"SQSN" + struct.pack(">H", 1), 24)


@pytest.mark.parametrize("flip", [_record, _snapshot])
def test_a_flipped_bit_of_what_is_stored_is_never_served(
    services: Services, flip: Callable[[bytearray], None]
) -> None:
    """NRW-2: a replica that cannot believe what it reads says so, loudly."""
    service = used(services)
    file = service.data / "store" / "data.mdb"
    content = bytearray(file.read_bytes())
    flip(content)
    file.write_bytes(content)
    assert not serves(service)


def test_a_bit_that_flips_anywhere_in_the_store_never_becomes_a_number(
    services: Services,
) -> None:
    """NRW-2. Whatever is flipped: it is noticed, or matters to nobody."""
    origin = used(services)
    content = (origin.data / "store" / "data.mdb").read_bytes()
    for place in random.sample([at for at, byte in enumerate(content) if byte], 6):
        print(f"bits of byte {place}")
        service = services.copy(origin, port=origin.port)
        damaged = bytearray(content)
        damaged[place] ^= 1 << random.randrange(8)
        (service.data / "store" / "data.mdb").write_bytes(damaged)
        service.may_trace = True
        if serves(service, _ENDS):
            try:
                with plain(service.address) as calls:
                    assert calls.next(7) == TAKEN + 1, place
            except grpc.RpcError:
                assert service.wait() in _ENDS
        service.kill()


# A page may be so broken that LMDB cannot write it, or falls over it: an end, but not a number.
_ENDS = (3, 70, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGSEGV)


def serves(service: Service, ends: tuple[int, ...] = (3,)) -> bool:
    """Start a service whose store may be damaged; False: it does not serve, and said so.

    It may end with one of these exit codes, or stay as the one replica that has left the quorum.
    """
    service.spawn()
    deadline_s = time.monotonic() + 20
    while not service.is_ready():
        if not service.runs_still():
            code = service.wait()
            assert code in ends, service.stderr()
            assert code != 3 or "seqctl up: " in service.stderr()
            return False
        if "out of the quorum" in service.stderr():
            serves_nothing(service)
            return False
        assert time.monotonic() < deadline_s, ("neither serves nor says why", service.stderr())
        time.sleep(0.005)
    service.wait_ready()
    return True


def serves_nothing(service: Service) -> None:
    assert "CRITICAL" in service.stderr()
    with plain(f"127.0.0.1:{service.port}") as calls:
        for _ in range(3):
            with pytest.raises(grpc.RpcError):
                calls.next(7)
    assert not service.is_ready()


def wait_until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.0005)


def test_a_crash_during_the_very_first_start_leaves_nothing_that_bars_the_next(
    services: Services,
) -> None:
    stages = set()
    for turn in range(12):
        service = services()
        service.spawn()
        wait_until(service.data.exists)
        if turn == 11:  # once after it all, whatever the speed of the machine
            wait_until((service.data / "map.json").exists)
        time.sleep(random.uniform(0, 0.06) if turn else 0)
        service.kill()
        stages.add(frozenset(path.name for path in service.data.iterdir()))
        service.start()
        with plain(service.address) as calls:
            # No answer was given before, so this is the first number, or above a window.
            first = calls.next(7)
            assert first == 1 or (first % 10_000 == 1 and first <= 20_001)
        assert not (service.data / "FOUNDING").exists()
        service.kill()
    assert len(stages) > 1, "every crash hit the same instant: the test has tested little"


def test_a_first_start_that_was_cut_off_is_begun_anew_and_starts_at_1(services: Services) -> None:
    service = services()
    service.spawn()
    marker = service.data / "FOUNDING"
    wait_until(lambda: marker.exists() or (service.data / "map.json").exists())
    service.kill()
    marker.touch()  # if the crash came too late for it
    service.start()
    with plain(service.address) as calls:
        assert calls.next(7) == 1
    assert not marker.exists()
    service.restart()
    with plain(service.address) as calls:
        assert calls.next(7) == 2


def _tree(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path.relative_to(folder)): (
            stat.S_IMODE(path.stat().st_mode),
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in (folder, *folder.rglob("*"))
    }


def test_a_directory_of_somebody_else_is_refused_and_left_as_it_was(services: Services) -> None:
    service = services()
    service.data.mkdir()
    (service.data / "thesis.txt").write_text("three years of work")
    (service.data / "drafts").mkdir()
    service.data.chmod(0o755)
    before = _tree(service.data)
    line = refused(service)
    assert str(service.data) in line and "not a data directory" in line
    assert _tree(service.data) == before


def test_a_file_in_place_of_the_directory_is_refused(services: Services) -> None:
    service = services()
    service.data.write_text("not a directory")
    assert str(service.data) in refused(service)
    assert service.data.read_text() == "not a directory"


def test_the_data_directory_is_closed_to_others_whatever_the_umask(services: Services) -> None:
    service = services()
    before = os.umask(0)
    try:
        service.start()
    finally:
        os.umask(before)
    for path in (service.data, *service.data.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path
    assert stat.S_IMODE(service.data.stat().st_mode) == 0o700
    assert service.terminate() == 0
    service.data.chmod(0o755)
    service.start()
    assert stat.S_IMODE(service.data.stat().st_mode) == 0o700


@pytest.mark.parametrize("founded", [True, False])
def test_a_read_only_data_directory_is_refused(services: Services, founded: bool) -> None:
    data = (used(services) if founded else services()).data
    data.mkdir(exist_ok=True, parents=True, mode=0o700)
    namespace = Namespace(f"mount --bind {data} {data}; mount -o remount,bind,ro {data}")
    try:
        service = services(data=data, before=namespace.entering)
        line = refused(service)
        assert str(data) in line
        assert "read-only" in line.lower()
    finally:
        namespace.close()


def test_another_layout_than_that_of_the_first_start_is_refused(services: Services) -> None:
    service = used(services)
    other = services(data=service.data, uid_limit=2_000_000)
    other.spawn()
    assert other.wait() == 2, other.stderr()
    assert "uid_limit" in other.stderr() and "1000000" in other.stderr()
    same = services(data=service.data, uid_limit=None)
    goes_on_densely(same)
