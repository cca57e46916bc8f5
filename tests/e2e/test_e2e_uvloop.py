"""The service, and the blocking client, on uvloop, where it is installed."""

import asyncio
import signal
import sys
import threading
from pathlib import Path

import pytest
import uvloop

import seqsvr
from processes import Services
from processes.calls import plain
from seqsvr.loops import new_event_loop

UVLOOP = ("env", "SEQSVR_LOOP=uvloop")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_service_serves_and_leaves_on_a_signal_with_dense_numbers(
    services: Services, number: int
) -> None:
    service = services(before=UVLOOP).start()
    with plain(service.address) as calls:
        assert [calls.next(7) for _ in range(3)] == [1, 2, 3]
    assert service.terminate(number) == 0
    service.start()
    with plain(service.address) as calls:
        assert calls.next(7) == 4
    service.kill()
    service.start()
    with plain(service.address) as calls:
        assert calls.next(7) > 4


def test_threads_and_tasks_get_rising_numbers(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQSVR_LOOP", "uvloop")
    service = services(before=UVLOOP).start()
    taken: dict[int, list[int]] = {}

    async def tasks() -> None:
        async with seqsvr.AsyncClient(service.address, timeout=30) as calls:
            ranges = [calls.next_many(range(100_000)) for _ in range(2)]
            for index, numbers in enumerate(await asyncio.gather(*ranges)):
                taken[100 + index] = [numbers[7], numbers[8]]

    with seqsvr.Client(service.address, timeout=30) as client:

        def thread(uid: int) -> None:
            taken[uid] = [client.next(uid) for _ in range(300)]

        threads = [threading.Thread(target=thread, args=(uid,)) for uid in range(500_000, 500_008)]
        for each in threads:
            each.start()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(tasks())
        for each in threads:
            each.join()
    assert sorted(taken.pop(100) + taken.pop(101)) == [1, 1, 2, 2]
    assert len(taken) == 8
    assert all(numbers == list(range(1, 301)) for numbers in taken.values())
    assert "Traceback" not in service.all_stderr()


def test_the_loop_is_chosen_by_what_is_installed_and_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def kind(name: str | None) -> type[asyncio.AbstractEventLoop]:
        if name is None:
            monkeypatch.delenv("SEQSVR_LOOP", raising=False)
        else:
            monkeypatch.setenv("SEQSVR_LOOP", name)
        loop = new_event_loop()
        loop.close()
        return type(loop)

    assert kind(None) is kind("uvloop") is uvloop.Loop
    assert issubclass(kind("asyncio"), asyncio.SelectorEventLoop)
    (tmp_path / "uvloop.py").write_text("raise ImportError('not installed')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "uvloop")
    assert issubclass(kind(None), asyncio.SelectorEventLoop)
    with pytest.raises(ImportError):
        kind("uvloop")
