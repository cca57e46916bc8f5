"""Histories are read strictly; only a last line cut off by a kill is forgiven."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from seqctl.failures import WrongUsage
from seqctl.history import HistoryReader


def entry(**changed: Any) -> dict[str, Any]:
    fields = {"op": "next", "uid": 7, "count": 1, "call_ns": 10, "return_ns": 20, "seq": 3}
    return {**fields, "exact": True, "epoch": 1, "error": None, **changed}


def line(**changed: Any) -> bytes:
    return json.dumps(entry(**changed)).encode() + b"\n"


def write(path: Path, *lines: bytes) -> str:
    path.write_bytes(b"".join(lines))
    return str(path)


def test_each_line_is_a_call_that_knows_its_place(tmp_path: Path) -> None:
    path = write(tmp_path / "h", line(), line(op="current", seq=0, exact=False, count=None))
    first, second = HistoryReader([path])
    assert (first.op, first.uid, first.seq, first.where) == ("next", 7, 3, (path, 1))
    assert (second.op, second.seq, second.exact, second.where) == ("current", 0, False, (path, 2))


def test_an_advance_says_its_floor_and_others_have_none(tmp_path: Path) -> None:
    path = write(tmp_path / "h", line(op="advance", at_least=9), line(at_least=9))
    first, second = HistoryReader([path])
    assert (first.op, first.seq, first.at_least) == ("advance", 3, 9)
    assert (second.op, second.at_least) == ("next", 0)
    for wrong in (None, -1, "9"):
        bad = write(tmp_path / "bad", line(op="advance", at_least=wrong))
        with pytest.raises(WrongUsage, match='"at_least" must be an integer'):
            list(HistoryReader([bad]))


def test_gzipped_files_are_unpacked_and_files_follow_each_other(tmp_path: Path) -> None:
    packed = write(tmp_path / "h.gz", gzip.compress(line(uid=1)))
    plain = write(tmp_path / "h", line(uid=2))
    assert [call.uid for call in HistoryReader([packed, plain])] == [1, 2]


def test_a_failed_call_needs_neither_seq_nor_epoch(tmp_path: Path) -> None:
    path = write(tmp_path / "h", line(error="TIMEOUT", seq=None, exact=None, epoch=None))
    (call,) = HistoryReader([path])
    assert call.error == "TIMEOUT"


def test_a_torn_last_line_is_counted_in_each_file(tmp_path: Path) -> None:
    paths = [write(tmp_path / name, line(), line()[:cut]) for name, cut in (("a", 1), ("b", 40))]
    reader = HistoryReader(paths)
    assert len(list(reader)) == 2
    assert reader.torn == 2


def test_a_whole_last_line_counts_without_its_newline(tmp_path: Path) -> None:
    reader = HistoryReader([write(tmp_path / "h", line(), line()[:-1])])
    assert len(list(reader)) == 2
    assert reader.torn == 0


@pytest.mark.parametrize(
    "bad",
    [
        b"\n",
        b"{\n",
        b"[]\n",
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        line(op="peek"),
        line(uid=-1),
        line(uid=True),
        line(uid=1.0),
        line(uid="7"),
        line(count=0),
        line(seq=0),
        line(seq=None),
        line(call_ns=21),
        line(error=5),
        line(epoch="1"),
        line(op="current", exact=None),
        line(op="current", exact=1),
        line(uid=-1)[:-1],
    ],
)
def test_a_malformed_line_is_named_with_its_file(tmp_path: Path, bad: bytes) -> None:
    path = write(tmp_path / "h", line(), bad)
    with pytest.raises(WrongUsage) as raised:
        list(HistoryReader([path]))
    assert str(raised.value).startswith(f"{path}:2: ")


def test_a_torn_line_in_the_middle_is_malformed(tmp_path: Path) -> None:
    path = write(tmp_path / "h", line()[:20] + b"\n", line())
    with pytest.raises(WrongUsage, match="h:1: "):
        list(HistoryReader([path]))


def test_a_missing_file_and_a_cut_off_gzip_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongUsage, match="No such file"):
        list(HistoryReader([str(tmp_path / "absent")]))
    cut = write(tmp_path / "h.gz", gzip.compress(line() * 100)[:-12])
    with pytest.raises(WrongUsage, match="cut off"):
        list(HistoryReader([cut]))
    fake = write(tmp_path / "f.gz", b"no gzip at all")
    with pytest.raises(WrongUsage, match=r"f\.gz"):
        list(HistoryReader([fake]))
