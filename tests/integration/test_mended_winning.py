"""Winning sections while some replica, or some section's last owner, takes its time."""

import asyncio
from pathlib import Path

import pytest

from allocsvr import winning
from cluster_in_a_box import Box, Caller, Link, Member, eventually, open_box

UID, TAKEN = 5, 42


def _deaf(document: object) -> None:
    """A node whose map says nothing new."""


def now_s() -> float:
    return asyncio.get_running_loop().time()


async def released_everywhere(box: Box, owner: Member) -> None:
    """Drain; of raises and releases, that is over once W replicas have them."""
    await eventually(lambda: all(link.done["raise_max"] for link in owner.links))
    await owner.node.drain()
    await eventually(lambda: all(box.record(i, 0).released for i in range(len(box.disks))))


# -- snapshots from replicas that freeze -------------------------------------------------------


async def test_a_replica_that_freezes_between_fence_and_snapshot_costs_no_number_seq_5(
    tmp_path: Path,
) -> None:
    """Another one has the snapshot too, and is asked in time."""
    ttl_s = 1.0

    def freezing(links: list[Link]) -> None:
        """Whichever is asked first."""

        def before(method: str, request: object) -> None:
            asked = [link for link in links if link.calls["scan"]]
            if method == "scan" and len(asked) == 1:
                asked[0].hang("scan")

        for link in links:
            link.before = before

    async with open_box(tmp_path, 3, 2, 2, sections=1) as box:
        caller = Caller(box)
        async with box.node(lease_ttl_s=ttl_s) as a:
            await box.own(a)
            assert await caller.next(a, UID, TAKEN) == 1
            await released_everywhere(box, a)
        async with box.node(lease_ttl_s=ttl_s, replica_timeout_s=30.0, faults=freezing) as b:
            start_s = now_s()
            await box.own(b)
            assert now_s() - start_s < 5 * ttl_s
            assert sorted((link.calls["scan"], link.done["scan"]) for link in b.links) == [
                (0, 0),  # its answer to the fence was one too many
                (1, 0),
                (1, 1),
            ]
            assert await caller.current(b, UID) == (TAKEN, True)
            assert await caller.next(b, UID) == TAKEN + 1


async def test_replicas_that_all_freeze_are_asked_once_each_and_cost_a_jump(
    tmp_path: Path,
) -> None:
    ttl_s = 1.0

    def freezing(links: list[Link]) -> None:
        for link in links:
            link.hang("scan")

    async with open_box(tmp_path, 3, 2, 2, sections=1) as box:
        caller = Caller(box)
        async with box.node(lease_ttl_s=ttl_s) as a:
            await box.own(a)
            await caller.next(a, UID, TAKEN)
            await released_everywhere(box, a)
        async with box.node(lease_ttl_s=ttl_s, replica_timeout_s=30.0, faults=freezing) as b:
            start_s = now_s()
            await box.own(b)
            assert now_s() - start_s < 5 * ttl_s
            assert max(link.calls["scan"] for link in b.links) == 1
            assert await caller.current(b, UID) == (100, False)
            assert await caller.next(b, UID) > TAKEN


async def test_snapshots_that_take_long_to_read_cost_no_number_seq_5(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a host that is busy: every page comes in time, all of them take many lease times."""
    monkeypatch.setattr(winning, "CHUNK", 1)  # sections per page
    ttl_s, sections = 1.0, 8
    async with open_box(tmp_path, 1, 1, 1, sections=sections) as box:
        caller = Caller(box)
        uids = [section * box.cluster.section_size for section in range(sections)]
        async with box.node(lease_ttl_s=ttl_s) as a:
            await box.own(a)
            for uid in uids:
                assert await caller.next(a, uid, TAKEN) == 1
            await a.node.drain()

        def slow(links: list[Link]) -> None:
            links[0].delay(0.35 * ttl_s, "scan")

        async with box.node(lease_ttl_s=ttl_s, faults=slow) as b:
            await box.own(b)
            assert b.links[0].calls["scan"] == sections
            for uid in uids:
                assert await caller.current(b, uid) == (TAKEN, True)
                assert await caller.next(b, uid) == TAKEN + 1


# -- leases of last owners ---------------------------------------------------------------------


async def test_sections_that_are_free_do_not_wait_behind_those_with_a_lease_to_wait_out(
    tmp_path: Path,
) -> None:
    async with open_box(tmp_path, 3, 2, 2, sections=24) as box:
        caller = Caller(box)
        async with box.node(lease_ttl_s=50.0) as a, box.node(lease_ttl_s=2.0) as b:
            await box.own(a, 0, 15)
            a.node._reconcile = _deaf  # type: ignore[method-assign]
            for section in range(15):  # each a map change, and an acquisition, of its own
                await box.assign(b, section, section)
            await box.assign(b, 15, 20)  # one acquisition of both kinds
            await box.own(b, 21, 23)
            await eventually(lambda: all(b.serves(s) for s in range(16, 21)))
            assert b.node.ledger.acquiring == set(range(16)), "somebody's lease was not waited out"
            await caller.next_many(b, [1605, 2305])


async def test_many_moves_from_an_owner_that_lives_take_one_lease_time_together_lease_1(
    tmp_path: Path,
) -> None:
    ttl_s, moves = 1.0, 32
    async with open_box(tmp_path, 3, 2, 2, sections=moves) as box:
        caller = Caller(box)

        def served(member: Member) -> int:
            return sum(member.serves(section) for section in range(moves))

        async with box.node(lease_ttl_s=ttl_s) as a, box.node(lease_ttl_s=ttl_s) as b:
            await box.own(a)
            uids = [section * 100 for section in range(moves)]
            await caller.next_many(a, uids)
            a.node._reconcile = _deaf  # type: ignore[method-assign]
            for section in range(moves):
                await box.assign(b, section, section)
            start_s = now_s()
            await eventually(lambda: served(b) == moves)
            assert now_s() - start_s < 4 * ttl_s  # 8 if only four at a time could wait
            await caller.next_many(b, uids)
