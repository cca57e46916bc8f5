"""Inputs that have found a bug, by target. They stay: each is tried in CI."""

import json
import struct

from seqsvr.v1 import alloc_pb2 as pb
from seqsvr.v1 import store_pb2

_DEEP = b"[" * 100_000
_TOO_MANY = 2**64 - 1
_FOR_EVER = store_pb2.EpochRange(first=0, last=_TOO_MANY, epoch=1)
_BACKWARDS = store_pb2.EpochRange(first=9, last=0, epoch=1)


def _session(**answer: object) -> bytes:
    return b"\0" + pb.SessionResponse(**answer).SerializeToString()  # type: ignore[arg-type]


def _advance(**answer: object) -> bytes:
    return b"\0" + pb.AdvanceSeqResponse(**answer).SerializeToString()  # type: ignore[arg-type]


def _identity(text: bytes) -> bytes:
    """With a right checksum, which the target sees to."""
    return b"\1" + struct.pack(">4sHH", b"SQID", 1, len(text)) + text + bytes(4)


def _with_address(address: str) -> bytes:
    """A map whose only owner is there."""
    entry = {"first": 0, "last": 9, "incarnation": "0" * 15 + "1", "address": address, "epoch": 3}
    store = {"name": "a", "address": "h:1", "store_id": "0" * 15 + "1"}
    cluster = {"id": "c", "section_size": 1, "uid_limit": 10, "seq_limit": 9}
    spec = {"name": "s", "first": 0, "last": 9, "replicas": [store], "r": 1, "w": 1}
    owners = {"set": "s", "version": 1, "entries": [{**entry, "leaving": False}], "floors": []}
    rows = {"cluster": cluster, "sets/s": {**spec, "membership": 1}, "assignments/s": owners}
    return b"\n".join(
        f"{key} {json.dumps({'format': 1, **document})}".encode() for key, document in rows.items()
    )


REGRESSIONS: dict[str, list[bytes]] = {
    # gRPC logged an address as it was, with its line breaks.
    "answers.table": [
        pb.RoutingTable(
            cluster="c",
            version=1,
            section_size=1,
            uid_limit=1,
            addresses=["12?\nc1d"],
            routes=[pb.Route()],
        ).SerializeToString()
    ],
    # A bug of seqctl instead of a damaged file; a time that was shown as it came.
    "backup": [
        b'\1{"backup":1,"cluster":' + _DEEP + b"\n",
        b'\1{"backup":1,"began":' + b"[" * 900 + b"]" * 900 + b',"cluster":{}}\n',
    ],
    # An integer that Python reads and does not write; a path that is refused with ValueError.
    "options": [
        b"\1step = 0x" + b"f" * 9_000 + b"\n",
        b"\0step = 0x" + b"f" * 9_000 + b"\n",
        b'\1data = "a\\u0000b"\n',
        b"\0a = " + _DEEP,
    ],
    # DecodeError, which is no ValueError, out of the handling of another error.
    "answers.status": [b"\xff\xff", b"\x08\x09\x1a\x07\x0a\x03abc\x12"],
    # A right checksum, and no sense.
    "stored.notes": [_identity(b"[]"), _identity(b"{}"), _identity(b'{"x":1}'), _identity(b"x")],
    "stored.map": [b"\1[]", b'\1{"entries":{"k":[1]}}', b'\1{"entries":{},"revision":"x"}'],
    # What is no text for protobuf: every answer with a table failed.
    "documents.map": [_with_address("\ud800:1"), _with_address("a\nb:1"), _with_address("h:1")],
    "documents.orders": [
        json.dumps({"format": 1, "set": "s", "drained": [{"address": one}], "pins": []}).encode()
        for one in ("a b", "\x1b[2J", "\ud800", "x" * 999)
    ],
    # Numbers that no sequence has, answers below the floor or about entries that were not asked.
    "answers.session": [
        _session(id=1, next=pb.BatchGetSeqResponse(seqs=[1, 2, _TOO_MANY], epochs=[3])),
        _session(id=3, next=pb.BatchGetSeqResponse(seqs=[1, 2, _TOO_MANY], epochs=[3])),
    ],
    "answers.advance": [
        _advance(seqs=[0, 0], epochs=[3]),
        _advance(seqs=[5, _TOO_MANY], epochs=[3]),
        _advance(seqs=[5, 5], errors=[pb.EntryError(index=7)]),
        _advance(seqs=[5]),
    ],
    # Ranges that nobody comes to the end of; a label of metrics that its sender chose.
    "answers.store": [
        b"\0" + store_pb2.RaiseResponse(refused=[_FOR_EVER]).SerializeToString(),
        b"\1" + store_pb2.RenewResponse(promises=[_FOR_EVER]).SerializeToString(),
        b"\0" + store_pb2.RaiseResponse(refused=[_BACKWARDS]).SerializeToString(),
    ],
    # One line of the audit hid all others.
    "audit": [b"{}", b"[]", b"\xff", _DEEP, json.dumps({"at": 1}).encode()],
}
