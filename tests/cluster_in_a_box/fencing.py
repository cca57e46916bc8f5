"""Answers to a fence, as a replica gives them; the one place in the tests that builds them."""

from collections.abc import Mapping

from allocsvr.acquisition import FenceAnswer


def answer(
    epoch: int,
    *,
    max_seq: int = 0,
    owner: int = 0,
    owner_epoch: int = 0,
    released: bool = False,
    snapshot_epoch: int = 0,
    leases: Mapping[int, int] | None = None,
    grace_ns: int = 0,
) -> FenceAnswer:
    """Granted. leases: incarnation -> nanoseconds left."""
    return FenceAnswer(
        granted=True,
        promised=epoch,
        max_seq=max_seq,
        owner=owner,
        owner_epoch=owner_epoch,
        released=released,
        snapshot_epoch=snapshot_epoch,
        leases=leases or {},
        grace_ns=grace_ns,
    )


def refused(promised: int) -> FenceAnswer:
    return FenceAnswer(granted=False, promised=promised)
