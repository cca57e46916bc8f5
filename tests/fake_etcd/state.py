"""What an etcd knows: keys with their revisions, the history of both, and leases without clocks."""

import itertools
from collections.abc import Iterable
from typing import Any

from etcd3.etcdrpc import kv_pb2
from etcd3.etcdrpc import rpc_pb2 as pb

Writes = list[tuple[bytes, "pb.PutRequest | None"]]


class State:
    """Leases never end by themselves: `drop` ends one, with its keys."""

    def __init__(self) -> None:
        self.revision = 1
        self.kvs: dict[bytes, Any] = {}
        self.events: list[Any] = []
        self.snapshots: dict[int, dict[bytes, Any]] = {1: {}}
        self.leases: dict[int, int] = {}
        self._ids = itertools.count(0x1000)

    def header(self, revision: int | None = None) -> Any:
        return pb.ResponseHeader(cluster_id=1, member_id=1, revision=revision or self.revision)

    def put(self, key: bytes, value: bytes, lease: int = 0) -> int:
        self.apply([(key, pb.PutRequest(key=key, value=value, lease=lease))])
        return self.revision

    def apply(self, writes: Writes) -> None:
        """One transaction; None deletes. Nothing happens where there is nothing to delete."""
        writes = [(key, put) for key, put in writes if put is not None or key in self.kvs]
        if not writes:
            return
        self.revision += 1
        for key, put in writes:
            self.events.append(self._write(key, put))
        self.snapshots[self.revision] = dict(self.kvs)

    def grant(self, ttl: int) -> int:
        lease = next(self._ids)
        self.leases[lease] = ttl
        return lease

    def drop(self, lease: int, *, remember: bool = False) -> None:
        """Delete the keys of a lease, and the lease, unless it is to be confirmed further on."""
        self.apply([(key, None) for key, kv in self.kvs.items() if kv.lease == lease])
        if not remember:
            self.leases.pop(lease, None)

    def range(self, request: Any, revision: int | None = None) -> Any:
        kvs = self.kvs if revision is None else self.snapshots[revision]
        found = [kvs[key] for key in sorted(kvs) if covers(request, key)]
        if request.sort_target == pb.RangeRequest.CREATE:
            found.sort(key=lambda kv: kv.create_revision)
        return pb.RangeResponse(header=self.header(revision), kvs=found, count=len(found))

    def transact(self, request: Any) -> Any:
        """Raises KeyError where a key is to be bound to a lease that is none."""
        writes: Writes = []
        answer = self._run(request, writes)
        for _, put in writes:
            if put is not None and put.lease:
                self.leases[put.lease]
        self.apply(writes)
        answer.header.CopyFrom(self.header())
        return answer

    def _run(self, request: Any, writes: Writes) -> Any:
        succeeded = all(self._holds(compare) for compare in request.compare)
        operations = request.success if succeeded else request.failure
        responses = [self._operation(operation, writes) for operation in operations]
        return pb.TxnResponse(succeeded=succeeded, responses=responses)

    def _operation(self, operation: Any, writes: Writes) -> Any:
        kind = operation.WhichOneof("request")
        if kind == "request_put":
            writes.append((operation.request_put.key, operation.request_put))
            return pb.ResponseOp(response_put=pb.PutResponse())
        if kind == "request_delete_range":
            writes.append((operation.request_delete_range.key, None))
            return pb.ResponseOp(response_delete_range=pb.DeleteRangeResponse())
        if kind == "request_range":
            return pb.ResponseOp(response_range=self.range(operation.request_range))
        return pb.ResponseOp(response_txn=self._run(operation.request_txn, writes))

    def _holds(self, compare: Any) -> bool:
        kv = self.kvs.get(compare.key, kv_pb2.KeyValue())
        name = {pb.Compare.VERSION: "version", pb.Compare.MOD: "mod_revision"}.get(
            compare.target, "lease"
        )
        equal = getattr(kv, name) == getattr(compare, name)
        return equal if compare.result == pb.Compare.EQUAL else not equal

    def _write(self, key: bytes, put: Any) -> Any:
        if put is None:
            del self.kvs[key]
            gone = kv_pb2.KeyValue(key=key, mod_revision=self.revision)
            return kv_pb2.Event(type=kv_pb2.Event.DELETE, kv=gone)
        earlier = self.kvs.get(key)
        self.kvs[key] = kv_pb2.KeyValue(
            key=key,
            value=put.value,
            lease=put.lease,
            create_revision=earlier.create_revision if earlier else self.revision,
            mod_revision=self.revision,
            version=earlier.version + 1 if earlier else 1,
        )
        return kv_pb2.Event(type=kv_pb2.Event.PUT, kv=self.kvs[key])


def covers(request: Any, key: bytes) -> bool:
    """Whether a range or watch request means this key."""
    if not request.range_end:
        return bool(key == request.key)
    return bool(request.key <= key < request.range_end)


def since(events: Iterable[Any], request: Any, revision: int) -> list[Any]:
    """The events that a watch request means, from a revision on."""
    return [e for e in events if e.kv.mod_revision >= revision and covers(request, e.kv.key)]
