"""What the tests of StoreSvr share: requests in one line, and a writer process to be killed."""

from seqsvr.v1 import store_pb2 as pb
from storesvr.port import Identity

IDENTITY = Identity("c1", "set-0", "store-0", 100_000, 2**32, 1, 0)
HEADER = pb.StoreHeader(cluster="c1", set="set-0", membership=1)
A, B = 0xA, 0xB
S = 10**9


def fence(first: int, last: int, epoch: int) -> pb.FenceRequest:
    return pb.FenceRequest(
        header=HEADER, ranges=[pb.EpochRange(first=first, last=last, epoch=epoch)]
    )


def raising(who: int, *entries: tuple[int, int, int]) -> pb.RaiseRequest:
    """entries: section, epoch, max_seq."""
    rows = [pb.RaiseEntry(section=s, epoch=e, max_seq=m) for s, e, m in entries]
    return pb.RaiseRequest(header=HEADER, incarnation=who, entries=rows)


def release(who: int, *entries: tuple[int, int, bytes]) -> pb.ReleaseRequest:
    """entries: section, epoch, snapshot."""
    rows = [pb.ReleaseEntry(section=s, epoch=e, snapshot=p) for s, e, p in entries]
    return pb.ReleaseRequest(header=HEADER, incarnation=who, entries=rows)


def renew(who: int, *, ttl_ns: int = S, since: int = 0, store: int = 0) -> pb.RenewRequest:
    return pb.RenewRequest(
        header=HEADER, incarnation=who, ttl_ns=ttl_ns, since=since, since_store_id=store
    )


def scan(first: int, last: int, *, with_snapshots: bool = False) -> pb.ScanRequest:
    return pb.ScanRequest(header=HEADER, first=first, last=last, with_snapshots=with_snapshots)
