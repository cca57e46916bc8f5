"""Message traces: what is read, what is passed over, and which line is blamed."""

import gzip
import tracemalloc
from pathlib import Path

import pytest

from seqctl.failures import WrongUsage
from seqctl.history import HistoryReader
from seqctl.trace import read_trace


def write(path: Path, text: str) -> str:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


@pytest.mark.parametrize("name", ["trace.txt", "trace.txt.gz"])
def test_messages_are_read_in_order_and_spread(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, "# a head\n\n1 2 1082040961\n  # more\n3 1 1082040962.5\n")
    trace = read_trace(path, spread=10)
    assert list(trace.senders) == [10, 30]
    assert list(trace.recipients) == [20, 10]
    assert list(trace.lines) == [3, 5]


def test_the_limit_ends_the_reading(tmp_path: Path) -> None:
    path = write(tmp_path / "t", "1 2 3\n4 5 6\nthis is never read\n")
    assert len(read_trace(path, limit=2)) == 2


@pytest.mark.parametrize(
    "bad", ["1 2", "1 2 3 4", "a 2 3", "-1 2 3", "1 2.0 3", "1 2 noon", "²² 2 3", "9" * 30 + " 1 1"]
)
def test_a_line_that_is_no_message_is_named(tmp_path: Path, bad: str) -> None:
    path = write(tmp_path / "t", f"1 2 3\n{bad}\n")
    with pytest.raises(WrongUsage, match="t:2: "):
        read_trace(path)


def test_an_empty_trace_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongUsage, match="no message"):
        read_trace(write(tmp_path / "t", "# nothing\n"))


def test_a_uid_above_the_limit_of_the_cluster_is_named(tmp_path: Path) -> None:
    trace = read_trace(write(tmp_path / "t", "1 2 3\n5 1 3\n5 4 3\n"), spread=100)
    trace.require_below(501)
    with pytest.raises(WrongUsage, match=r"t:2: uid 500 .* 500"):
        trace.require_below(500)


def test_a_uid_that_no_cluster_has_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "t", "1 2 3\n1 9223372036854775807 3\n")
    read_trace(path)
    with pytest.raises(WrongUsage, match="t:2: "):
        read_trace(path, spread=2)


@pytest.mark.parametrize("body", [b"1" * 10**8, b"\n" * 10**5, b"#" * 10**7])
def test_a_packed_file_that_grows_without_end_takes_no_room(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(body, 9))
    del body
    tracemalloc.start()
    try:
        with pytest.raises(WrongUsage):
            read_trace(str(path))
        with pytest.raises(WrongUsage):
            list(HistoryReader([str(path)]))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20
