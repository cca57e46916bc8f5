"""The map's keys and transactions in etcd's words. Values in, values out; nothing is sent here.

Every key lies under the map's prefix. A key bound to a lease belongs to its holder (a registration,
a candidate), and a transaction compares the lease of all that it writes with "none", so that this
holds whoever's registration it is.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from etcd3.etcdrpc import kv_pb2
from etcd3.etcdrpc import rpc_pb2 as pb

from clustermap.coordinator import Change, Listing, Versioned


class Keyspace:
    """Keys of the map <-> keys of etcd, which have a prefix before them."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.encode()

    def encode(self, key: str) -> bytes:
        return self._prefix + key.encode("utf-8", "surrogateescape")

    def decode(self, key: bytes) -> str:
        return key[len(self._prefix) :].decode("utf-8", "surrogateescape")

    def range(self, prefix: str, **more: Any) -> Any:
        """A request for all keys that begin with `prefix`."""
        first = self.encode(prefix)
        return pb.RangeRequest(key=first, range_end=after(first), **more)

    def listing(self, answer: Any) -> Listing:
        entries = {self.decode(kv.key): Versioned(kv.value, kv.mod_revision) for kv in answer.kvs}
        return Listing(answer.header.revision, entries)

    def watch(self, prefix: str, start_revision: int) -> Any:
        first = self.encode(prefix)
        create = pb.WatchCreateRequest(
            key=first, range_end=after(first), start_revision=start_revision
        )
        return pb.WatchRequest(create_request=create)

    def changes(self, events: Iterable[Any], told: int) -> Iterator[Change]:
        """The changes after revision `told`: what one transaction did is one of them."""
        revision = told
        entries: dict[str, Versioned | None] = {}
        for event in events:
            at = event.kv.mod_revision
            if at > revision and entries:
                yield Change(revision, entries)
                entries = {}
            if at <= told or at < revision:
                continue  # known already, or out of order
            revision = at
            gone = event.type == kv_pb2.Event.DELETE
            entries[self.decode(event.kv.key)] = None if gone else Versioned(event.kv.value, at)
        if entries:
            yield Change(revision, entries)

    def transaction(self, expected: Mapping[str, int], puts: Mapping[str, bytes | None]) -> Any:
        """Its failure branch reads the keys that it was to write: see `bound_key`."""
        conditions = [self._written_at(key, revision) for key, revision in expected.items()]
        unbound = [self.bound_to(key, 0) for key in puts]
        return pb.TxnRequest(
            compare=conditions + unbound,
            success=[
                delete_op(self.encode(key)) if value is None else put_op(self.encode(key), value)
                for key, value in puts.items()
            ],
            failure=[range_op(self.encode(key)) for key in puts],
        )

    def bound_key(self, answer: Any) -> str | None:
        """A key that a failed transaction was to write, and that is bound to a lease."""
        for response in answer.responses:
            for kv in response.response_range.kvs:
                if kv.lease:
                    return self.decode(kv.key)
        return None

    def registration(self, key: str, value: bytes, lease: int) -> Any:
        """Write a key and bind it to the lease, unless it is a lasting document."""
        put = put_op(self.encode(key), value, lease)
        absent = pb.TxnRequest(compare=[self._written_at(key, 0)], success=[put])
        return pb.TxnRequest(
            compare=[self.bound_to(key, 0, pb.Compare.NOT_EQUAL)],
            success=[put],
            failure=[pb.RequestOp(request_txn=absent)],
        )

    def replacement(self, key: str, value: bytes, lease: int, revision: int) -> Any:
        """Write a key anew if it still is what this lease's holder wrote at `revision`."""
        return pb.TxnRequest(
            compare=[self.bound_to(key, lease), self._written_at(key, revision)],
            success=[put_op(self.encode(key), value, lease)],
            failure=[range_op(self.encode(key))],
        )

    def bound_to(self, key: str, lease: int, result: int = pb.Compare.EQUAL) -> Any:
        """A missing key is bound to lease 0."""
        return pb.Compare(key=self.encode(key), target=pb.Compare.LEASE, result=result, lease=lease)

    def _written_at(self, key: str, revision: int) -> Any:
        if revision == 0:
            return pb.Compare(
                key=self.encode(key), target=pb.Compare.VERSION, result=pb.Compare.EQUAL, version=0
            )
        return pb.Compare(
            key=self.encode(key),
            target=pb.Compare.MOD,
            result=pb.Compare.EQUAL,
            mod_revision=revision,
        )


def put_op(key: bytes, value: bytes, lease: int = 0) -> Any:
    return pb.RequestOp(request_put=pb.PutRequest(key=key, value=value, lease=lease))


def delete_op(key: bytes) -> Any:
    return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key))


def range_op(key: bytes) -> Any:
    return pb.RequestOp(request_range=pb.RangeRequest(key=key, keys_only=True))


def after(prefix: bytes) -> bytes:
    """The first key behind all that begin with `prefix`, which is not empty."""
    end = bytearray(prefix)
    while end and end[-1] == 0xFF:
        end.pop()
    if not end:
        return b"\0"  # etcd's word for: to the very end
    end[-1] += 1
    return bytes(end)
