"""Restarts: a graceful one keeps numbers dense, a crash costs at most a window (SEQ-5)."""

import signal
import time

import pytest

from processes import Service, Services
from processes.calls import Plain, plain

STEP = 10_000
SECTION = 100_000
MANY = 300 * SECTION
WIDE = 8_000 * SECTION  # so many that winning them all takes a while
DELAYS_S = (0.0, 0.03, 0.06, 0.12, 0.2)


def until_it_holds_its_data(service: Service) -> None:
    """Wait until a run that was spawned has got as far as locking its data directory."""
    lock = service.data / "LOCK"
    deadline_s = time.monotonic() + 30
    while not lock.exists() or lock.read_text().strip() != str(service.pid):
        assert service.runs_still(), service.stderr()
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_graceful_restart_goes_on_with_the_very_next_number(
    services: Services, number: int
) -> None:
    service = services().start()
    with plain(service.address) as calls:
        assert [calls.next(7) for _ in range(3)] == [1, 2, 3]
        assert calls.next(500_000, 25) == 1
    assert service.terminate(number) == 0
    service.start()
    with plain(service.address) as calls:
        assert calls.current(7) == (3, True)
        assert calls.current(500_000) == (25, True)
        assert calls.current(8) == (0, True)
        assert calls.next(7) == 4
        assert calls.next(500_000) == 26
        assert calls.next(8) == 1


def test_a_signal_before_ready_leaves_numbers_dense(services: Services) -> None:
    service = services(uid_limit=WIDE).start()
    with plain(service.address) as calls:
        assert calls.next(7, 3) == 1
    assert service.terminate() == 0
    early = 0
    for index, delay_s in enumerate(DELAYS_S):
        service.spawn()
        until_it_holds_its_data(service)
        time.sleep(delay_s)
        early += not service.is_ready()
        number = signal.SIGINT if index % 2 else signal.SIGTERM
        assert service.terminate(number) == 0, service.stderr()
    assert early >= 2, "no signal came before ready: the test has tested nothing"
    service.start()
    with plain(service.address) as calls:
        assert calls.current(7) == (3, True)
        assert calls.next(7) == 4
        assert calls.next(WIDE - 1) == 1


def test_kill_9_before_ready_costs_at_most_a_window(services: Services) -> None:
    service = services(uid_limit=WIDE).start()
    with plain(service.address) as calls:
        assert calls.next(7, 3) == 1
    assert service.terminate() == 0
    for delay_s in DELAYS_S:
        service.spawn()
        until_it_holds_its_data(service)
        time.sleep(delay_s)
        service.kill()
    service.start()
    with plain(service.address) as calls:
        # Each of these crashes may have raised once.
        assert 4 <= calls.next(7) <= 3 + len(DELAYS_S) * STEP + 1


def test_restarts_without_traffic_do_not_lift_numbers(services: Services) -> None:
    """SEQ-5, also for the crash that follows: no restart may leave a window behind unused."""
    service = services(uid_limit=SECTION).start()
    with plain(service.address) as calls:
        assert calls.next(7, 3) == 1
    for _ in range(2):
        service.restart()
    with plain(service.address) as calls:
        assert calls.current(7) == (3, True)
        assert calls.next(7) == 4
    for _ in range(18):
        service.restart()
    service.kill()
    service.start()
    with plain(service.address) as calls:
        assert 5 <= calls.next(7) <= 4 + 2 * STEP


def test_a_crash_costs_at_most_the_window(services: Services) -> None:
    service = services().start()
    taken = 0
    for _ in range(3):
        with plain(service.address) as calls:
            first = calls.next(7, 5)
        assert taken < first <= taken + 2 * STEP
        taken = first + 4
        service.kill()
        service.start()
    with plain(service.address) as calls:
        value, exact = calls.current(7)
        assert not exact and taken <= value <= taken + 2 * STEP
        assert calls.next(7) > value
        assert calls.current(7)[1]


def places() -> dict[int, int]:
    """uid -> how many numbers it takes: first, last and a middle one of every section."""
    uids = [s * SECTION + i for s in range(MANY // SECTION) for i in (0, 4_321 + s, SECTION - 1)]
    return {uid: 1 + index % 7 for index, uid in enumerate(uids)}


def take_everywhere(calls: Plain) -> dict[int, int]:
    """The last number each uid got."""
    counts = places()
    firsts = calls.next_many(list(counts), list(counts.values()))
    return {
        uid: first + count - 1 for (uid, count), first in zip(counts.items(), firsts, strict=True)
    }


def test_every_section_goes_on_where_it_was_after_a_graceful_restart(services: Services) -> None:
    """LESSONS, teamgram: a restart filled the first section only, all others began at 0 again."""
    service = services(uid_limit=MANY).start()
    with plain(service.address) as calls:
        before = take_everywhere(calls)
    assert before == places()
    service.restart()
    with plain(service.address) as calls:
        assert {uid: calls.current(uid) for uid in list(before)[::50]} == {
            uid: (last, True) for uid, last in list(before.items())[::50]
        }
        after = take_everywhere(calls)
    assert after == {uid: 2 * count for uid, count in places().items()}


def test_every_section_goes_on_above_after_kill_9(services: Services) -> None:
    service = services(uid_limit=MANY).start()
    with plain(service.address) as calls:
        before = take_everywhere(calls)
    service.kill()
    service.start()
    with plain(service.address) as calls:
        after = take_everywhere(calls)
    counts = places()
    assert all(after[uid] - counts[uid] >= before[uid] for uid in counts)
    assert all(after[uid] <= before[uid] + 2 * STEP for uid in counts)
