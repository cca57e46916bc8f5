"""Targets: files that operators hand over, and lines of the audit."""

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from allocsvr.__main__ import OPTIONS as ALLOC_OPTIONS
from arbitersvr.__main__ import OPTIONS as ARBITER_OPTIONS
from clustermap.coordinator import Versioned
from clustermap.model import Cluster
from fuzzing.documents import SETS
from seqcheck.history import check
from seqctl.audit import lines_of
from seqctl.backup_file import Kept, Writer, read_backup
from seqctl.failures import CommandFailed, WrongUsage
from seqctl.floors import parse_floor
from seqctl.history import HistoryReader
from seqctl.trace import read_trace
from seqsvr.sections import SEQ_LIMIT, UID_LIMIT
from seqsvr.v1 import store_pb2
from storesvr.__main__ import OPTIONS as STORE_OPTIONS
from svrprocess.etcd_options import etcd_options
from svrprocess.options import Option, parse

_FOLDER = TemporaryDirectory(prefix="fuzzing-")


def _file(name: str, data: bytes) -> str:
    path = Path(_FOLDER.name) / name
    path.write_bytes(data)
    return str(path)


def packable(read: Callable[[str], None]) -> Callable[[bytes], None]:
    """First byte: 0 as it is, 1 packed by gzip, 2 packed already (or said to be)."""

    def run(data: bytes) -> None:
        how, body = data[0] % 3 if data else 0, data[1:]
        if how == 1:
            body = gzip.compress(body, 1)
        read(_file("input.gz" if how else "input", body))

    return run


def packed_seeds(*texts: bytes) -> Callable[[], list[bytes]]:
    def seeds() -> list[bytes]:
        plain = [bytes((how,)) + text for text in texts for how in (0, 1)]
        packer = zlib.compressobj(9, wbits=31)
        long = packer.compress(b"1" * 10**6) + packer.flush()
        return [*plain, b"\2" + gzip.compress(texts[0], 1), b"\2" + long]

    return seeds


trace_seeds = packed_seeds(b"1 2 1700000000\n# x\n\n3 4 1700000000.5\n", b"0 9223372036854775807 0")


def _trace(path: str) -> None:
    try:
        trace = read_trace(path, spread=1_000)
        trace.require_below(2**32)
    except WrongUsage:
        return
    assert trace.largest < 2**32


trace = packable(_trace)

_CALLS = (
    {"op": "next", "uid": 1, "count": 2, "call_ns": 1, "return_ns": 2, "seq": 1, "epoch": 1},
    {"op": "current", "uid": 1, "call_ns": 3, "return_ns": 4, "seq": 2, "exact": True},
    {"op": "advance", "uid": 1, "call_ns": 5, "return_ns": 6, "seq": 9, "at_least": 7},
    {"op": "next", "uid": 2, "count": 1, "call_ns": 5, "return_ns": 9, "error": "TIMEOUT"},
)
history_seeds = packed_seeds(
    b"".join(json.dumps(call).encode() + b"\n" for call in _CALLS),
    *(json.dumps(call).encode() for call in _CALLS),
)


def _history(path: str) -> None:
    try:
        calls = list(HistoryReader([path]))
    except WrongUsage:
        return
    check(calls, complete=True)


history = packable(_history)


def floors_seeds() -> list[bytes]:
    return [b"uid,floor", b"\xef\xbb\xbf1, 2\r\n", b'"4294967295","9223372036854775807"', b"\n"]


def floors(data: bytes) -> None:
    for number in (1, 2):
        try:
            floor = parse_floor(number, data, UID_LIMIT)
        except ValueError as error:
            assert len(str(error)) < 1_000
            continue
        assert floor is None or (0 <= floor.uid < UID_LIMIT and 0 <= floor.floor <= SEQ_LIMIT)


def backup_seeds() -> list[bytes]:
    """Made by the writer; what is after the first byte is without its digest."""
    made = []
    for index, spec in enumerate(SETS):
        path = Path(_FOLDER.name) / f"seed-{index}"
        path.unlink(missing_ok=True)
        with Writer(path) as writer:
            writer.begin(Cluster("c1"), "me@here")
            writer.begin_set(Kept(spec, 3, 4, 5, True))
            records = [
                store_pb2.StoredRecord(
                    section=0, promised=3, max_seq=10_000, owner_epoch=2, owner=9
                ),
                store_pb2.StoredRecord(section=9, released=True),
            ]
            writer.records(records)
            writer.end_set(spec.name, len(records))
            writer.finish()
        body, _, _ = path.read_bytes()[:-1].rpartition(b"\n")
        made += [b"\0" + path.read_bytes(), b"\1" + body + b"\n"]
    return made


def backup(data: bytes) -> None:
    """First byte odd: the rest gets a right digest."""
    body = data[1:]
    if data[:1] and data[0] % 2:
        digest = hashlib.sha256(body).hexdigest()
        body += json.dumps({"sha256": digest}, separators=(",", ":")).encode() + b"\n"
    try:
        found = read_backup(Path(_file("backup", body)))
    except CommandFailed as error:
        assert len(str(error)) < 10_000
        return
    assert isinstance(found.began, str)
    for name, kept in found.sets.items():
        assert kept.spec.name == name
        assert all(0 <= section < 2**64 for section in kept.records)


_PROGRAMS = (
    ("allocsvr", ALLOC_OPTIONS),
    ("storesvr", STORE_OPTIONS),
    ("arbitersvr", ARBITER_OPTIONS),
)
_VALUES = ("127.0.0.1:1", "x", "5", "1.5", "true", "nan", "inf", "-1", "9" * 30)


def options_seeds() -> list[bytes]:
    """Each option of each program in some forms of TOML."""
    made = [b"\0", b'\1cluster = "c1"\n', b"\2a = 1979-05-27T07:32:00Z\n"]
    for index, (_, options) in enumerate(_PROGRAMS):
        head = bytes((index,))
        for option in options:
            made += [head + f"{option.name} = {value}\n".encode() for value in _VALUES[2:]]
            made.append(head + f'{option.key} = "{_VALUES[0]}"\n'.encode())
        made.append(head + b"".join(f'{o.name} = "x"\n'.encode() for o in options))
    return made


def _optional(table: Iterable[Option]) -> list[Option]:
    """The same, and one that is missing hides nothing that is wrong with the others."""
    return [replace(option, required=False) for option in table]


def options(data: bytes) -> None:
    """First byte: the program; the rest is its --config file."""
    program, table = _PROGRAMS[data[0] % 3 if data else 0]
    path = _file("config", data[1:])
    try:
        args = parse(program, "", _optional(table), ["--config", path], environ={})
        if hasattr(args, "etcd"):
            etcd_options(args)
    except CommandFailed as error:
        assert "\n" not in str(error) and str(error)
        return
    for value in vars(args).values():
        assert not isinstance(value, str) or "\0" not in value, "it may become a path"
        assert not isinstance(value, float) or value == value


def audit_seeds() -> list[bytes]:
    line = {"at": "2026-01-01T00:00:00Z", "who": "me", "what": "move", "outcome": "done"}
    return [json.dumps(line).encode(), json.dumps({**line, "more": 1}).encode(), b"{}"]


def audit(data: bytes) -> None:
    """A line of anybody's makes no command fail that shows the others."""
    (line,) = lines_of({"audit/1": Versioned(data, 1)})
    assert line.keys() >= {"at", "who", "what", "outcome"}
    assert all(isinstance(value, str) for value in line.values())
