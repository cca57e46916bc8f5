"""Boot grace covers every lease that an earlier process may have granted. LEASE-1."""

from pathlib import Path

import pytest

from clustermap.clock import boottime_ns
from storesvr.directory import note_outliving, recall_outliving
from storesvr.errors import CannotOpen
from storesvr.replica import MAX_TTL_NS
from storesvr.service import StoreService, open_service
from storesvr_world import IDENTITY, A, S, fence, renew


def opened(path: Path, ttl_ns: int) -> StoreService:
    """As the process storesvr opens it."""
    return open_service(path, IDENTITY, create=True, boot_grace_ns=ttl_ns, max_ttl_ns=ttl_ns)


async def grace_ns(service: StoreService) -> int:
    return (await service.fence(fence(0, 0, 1))).boot_grace_ns


async def killed(service: StoreService) -> None:
    """Let go of the directory without the goodbye of an orderly end."""
    service._closing = None
    await service.aclose()


async def test_a_restart_with_a_shorter_lease_waits_for_the_longer_ones_of_before(
    tmp_path: Path,
) -> None:
    service = opened(tmp_path, 30 * S)
    await service.renew(renew(A, ttl_ns=30 * S))
    await killed(service)
    for _ in range(2):  # also when the first restart dies before they have ended
        service = opened(tmp_path, S)
        assert 29 * S < await grace_ns(service) <= 30 * S
        await killed(service)
    service = opened(tmp_path, 40 * S)
    assert 39 * S < await grace_ns(service) <= 40 * S
    await killed(service)


async def test_the_longest_lease_is_noted_before_the_first_can_be_granted(tmp_path: Path) -> None:
    service = opened(tmp_path, 7 * S)
    assert recall_outliving(tmp_path) == 7 * S
    await killed(service)
    service = opened(tmp_path, 9 * S)
    assert recall_outliving(tmp_path) == 9 * S
    await killed(service)


async def test_an_orderly_end_after_the_grace_forgets_the_longer_leases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await killed(opened(tmp_path, 30 * S))
    service = opened(tmp_path, S)
    await service.aclose()  # too early
    assert recall_outliving(tmp_path) == 30 * S
    service = opened(tmp_path, S)
    later = boottime_ns() + 31 * S
    monkeypatch.setattr("storesvr.service.boottime_ns", lambda: later)
    await service.aclose()
    assert recall_outliving(tmp_path) == S
    note_outliving(tmp_path, 5 * S)  # what another process notes, a second aclose leaves alone
    await service.aclose()
    assert recall_outliving(tmp_path) == 5 * S


async def test_a_store_that_does_not_say_may_have_granted_the_longest_lease(
    tmp_path: Path,
) -> None:
    await killed(opened(tmp_path, S))
    note = tmp_path / "outliving"
    spoilt = bytearray(note.read_bytes())
    spoilt[12] ^= 1
    for content in (None, b"", bytes(spoilt)):
        if content is None:
            note.unlink()
        else:
            note.write_bytes(content)
        service = opened(tmp_path, S)
        assert MAX_TTL_NS - S < await grace_ns(service) <= MAX_TTL_NS
        await killed(service)
        assert recall_outliving(tmp_path) == MAX_TTL_NS


async def test_a_new_store_waits_for_its_own_lease_only(tmp_path: Path) -> None:
    service = opened(tmp_path / "store", 2 * S)
    assert S < await grace_ns(service) <= 2 * S
    await killed(service)


async def test_where_no_lease_outlives_its_process_there_is_nothing_to_wait_for(
    tmp_path: Path,
) -> None:
    """The embedded service, unless the directory was a standalone replica's."""
    for _ in range(2):
        service = open_service(tmp_path / "embedded", IDENTITY, create=True)
        assert await grace_ns(service) == 0
        assert recall_outliving(tmp_path / "embedded") == 0
        await killed(service)
    service = opened(tmp_path / "embedded", 2 * S)
    assert 0 < await grace_ns(service) <= 2 * S
    await killed(service)
    service = open_service(tmp_path / "embedded", IDENTITY, create=False)
    assert await grace_ns(service) > 0
    await killed(service)


def test_a_longer_lease_than_any_store_may_grant_is_refused(tmp_path: Path) -> None:
    for ttl_ns in (0, MAX_TTL_NS + 1):
        with pytest.raises(CannotOpen, match="longest lease"):
            opened(tmp_path, ttl_ns)
