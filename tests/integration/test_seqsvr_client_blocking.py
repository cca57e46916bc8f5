"""The blocking client: threads, loops, forks, endings."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import pytest

import seqsvr
from fake_alloc import FakeAlloc


class Background:
    """A FakeAlloc in the loop of another thread."""

    def __init__(self) -> None:
        self.node = FakeAlloc()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.run(self.node.__aenter__)

    def run(self, call: Callable[[], object]) -> None:
        asyncio.run_coroutine_threadsafe(call(), self._loop).result(30)  # type: ignore[arg-type]

    def stop(self) -> None:
        self.run(self.node.stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()


@pytest.fixture
def background() -> Iterator[Background]:
    made = Background()
    yield made
    made.stop()


def test_every_method_has_a_blocking_twin(background: Background) -> None:
    with seqsvr.Client(background.node.address) as seq:
        assert seq.next(1, timeout=20) == 1
        assert seq.next_range(1, 3) == range(2, 5)
        assert seq.next_many([1, 2, 1]) == [5, 1, 6]
        assert seq.current(1) == seqsvr.Current(6, True)
        assert seq.current_many([2, 3]) == [seqsvr.Current(1, True), seqsvr.Current(0, True)]
        assert seq.route() == seq.refresh() == seq.table()
        with pytest.raises(seqsvr.InvalidArgument):
            seq.next(-1)
    names = {name for name in vars(seqsvr.AsyncClient) if not name.startswith("_")} - {"aclose"}
    assert names | {"close"} == {name for name in vars(seqsvr.Client) if not name.startswith("_")}


def test_sixteen_threads_share_a_client(background: Background) -> None:
    with seqsvr.Client(background.node.address, timeout=30) as seq:

        def work(_: int) -> list[int]:
            return [seq.next(7) for _ in range(100)]

        with ThreadPoolExecutor(16) as pool:
            runs = list(pool.map(work, range(16)))
    assert all(run == sorted(run) for run in runs)
    assert sorted(chain(*runs)) == list(range(1, 1_601))
    assert len(background.node.requests) < 1_600, "they share batches"


def test_a_call_after_the_end_says_so(background: Background) -> None:
    seq = seqsvr.Client(background.node.address)
    seq.next(1)
    seq.close()
    seq.close()
    with pytest.raises(seqsvr.Unavailable) as caught:
        seq.next(1)
    assert caught.value.reason == "CLOSED"


def test_closing_ends_the_calls_of_other_threads(background: Background) -> None:
    seq = seqsvr.Client(background.node.address, timeout=3600)
    seq.next(1)
    background.node.script = background.node.never
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(seq.next, 1) for _ in range(4)]
        while sum(map(len, background.node.batches)) < 5:
            threading.Event().wait(0.001)
        seq.close()
        for call in calls:
            with pytest.raises(seqsvr.OutcomeUnknown):
                call.result(30)


FORKING = """
import os, seqsvr, sys
seq = seqsvr.Client(sys.argv[1])
seq.next(1)
child = os.fork()
if child == 0:
    try:
        seq.next(1)
    except RuntimeError as error:
        seq.close()
        os._exit(7 if "forked" in str(error) else 1)
    finally:
        os._exit(1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), seq.next(1))
"""


def test_a_client_of_the_parent_is_refused_in_a_fork_and_goes_on_in_the_parent(
    background: Background,
) -> None:
    # Without grpc's own handlers of fork, which crash a child now and then.
    done = run_program(FORKING, background.node.address, GRPC_ENABLE_FORK_SUPPORT="0")
    assert (done.returncode, done.stdout) == (0, "7 2\n")


async def test_a_coroutine_may_block_on_it(background: Background) -> None:
    with seqsvr.Client(background.node.address) as seq:
        assert seq.next(1) == 1


def test_a_program_that_does_not_close_ends_and_keeps_its_history(
    background: Background, tmp_path: Path
) -> None:
    path = tmp_path / "history"
    program = (
        "import seqsvr, sys\n"
        "seq = seqsvr.Client(sys.argv[1], history=sys.argv[2])\n"
        "print(seq.next(5))\n"
    )
    done = run_program(program, background.node.address, str(path))
    assert (done.returncode, done.stdout) == (0, "1\n")
    assert "Traceback" not in done.stderr
    assert json.loads(path.read_text())["seq"] == 1


def run_program(text: str, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", text, *args],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_client_collected_in_its_own_thread_does_not_wait_for_itself() -> None:
    client = seqsvr.Client("127.0.0.1:1")
    thread = client._thread
    collected = threading.Event()

    def collect() -> None:
        client._finalizer()
        collected.set()

    thread._loop.call_soon_threadsafe(collect)
    assert collected.wait(5)
    thread._thread.join(5)
    assert not thread._thread.is_alive()


def test_an_interrupted_call_does_not_keep_later_ones_from_the_loop(
    background: Background, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Struck between its entry and the call that wakes the loop."""
    with seqsvr.Client(background.node.address, timeout=20) as seq:
        assert seq.next(1) == 1
        loop = seq._thread._loop
        waken = loop.call_soon_threadsafe

        def struck(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(loop, "call_soon_threadsafe", struck)
        with pytest.raises(KeyboardInterrupt):
            seq.next(1)
        monkeypatch.setattr(loop, "call_soon_threadsafe", waken)
        assert seq.next(1) >= 2
        assert seq.next(2) == 1


def test_a_call_from_its_own_thread_is_refused_instead_of_waiting_for_itself(
    background: Background,
) -> None:
    with seqsvr.Client(background.node.address, timeout=20) as seq:
        refused: Future[list[type[BaseException]]] = Future()

        def inside() -> None:
            kinds: list[type[BaseException]] = []
            for call in (lambda: seq.next(1), lambda: seq.next_many([1, 2])):
                try:
                    call()
                except RuntimeError as error:
                    kinds.append(type(error))
            refused.set_result(kinds)

        seq._thread._loop.call_soon_threadsafe(inside)
        assert refused.result(20) == [RuntimeError, RuntimeError]
        assert seq.next(1) == 1


def test_both_clients_name_the_same_bound(background: Background) -> None:
    async def asked() -> str:
        async with seqsvr.AsyncClient(background.node.address, timeout=20) as seq:
            await seq.next(1)
            with pytest.raises(seqsvr.InvalidArgument) as caught:
                await seq.next(-1)
            return str(caught.value)

    with seqsvr.Client(background.node.address, timeout=20) as seq:
        seq.next(1)
        with pytest.raises(seqsvr.InvalidArgument) as caught:
            seq.next(-1)
    assert str(caught.value) == asyncio.run(asked())
