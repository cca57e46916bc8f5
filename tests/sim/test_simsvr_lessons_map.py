"""What others got wrong about etcd, or etcd itself, done to our code (docs/lessons-map.md)."""

from collections.abc import Callable

import pytest

from on_stage import SEEDS, played
from simsvr.stage import Stage

MAP_ALONE = ("map_lies",)


def lease_says_ok(stage: Stage) -> None:
    """All leases end, and every renewal is answered with OK all the same."""
    disk = stage.world.map_disk
    disk.keepalive_lies = True
    assert disk.server is not None
    disk.server.expire_all_leases()


def revoked_by_an_old_leader(stage: Stage) -> None:
    assert stage.world.map_disk.server is not None
    stage.world.map_disk.server.expire_all_leases()


def reads_are_stale_after_a_pause(stage: Stage) -> None:
    disk = stage.world.map_disk
    disk.stale_after_pause_s = 3.0
    assert disk.server is not None
    disk.server.stale_reads(3.0, behind=20)


def all_at_once(stage: Stage) -> None:
    lease_says_ok(stage)
    reads_are_stale_after_a_pause(stage)


LIES = (lease_says_ok, revoked_by_an_old_leader, reads_are_stale_after_a_pause, all_at_once)


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_nothing_of_ours_rests_on_what_etcd_says_of_leases_and_reads(
    lie: Callable[[Stage], None],
) -> None:
    """etcd before 3.4.38 and 3.5.23: OK after revocation, leases revoked, stale reads."""

    async def script(stage: Stage) -> None:
        await stage.serves()
        owners = [stage.owner(section) for section in range(4)]
        for _ in range(3):
            lie(stage)
            for _ in range(20):
                await stage.next_many([0, 0], client="another")
                await stage.passes(0.1)
                assert [stage.owner(section) for section in range(4)] == owners
        stage.heal()
        stage.kill(str(owners[0]))
        await stage.serves(0, without=owners[0])
        await stage.next(0)

    outcome = played(script, 2, sections=4, kinds=MAP_ALONE)
    assert not outcome.failed


def silent(stage: Stage) -> None:
    assert stage.world.map_disk.server is not None
    stage.world.map_disk.server.silence_watches()


def cancelled(stage: Stage) -> None:
    assert stage.world.map_disk.server is not None
    stage.world.map_disk.server.end_watches()


def compacted(stage: Stage) -> None:
    assert stage.world.map_disk.server is not None
    stage.world.map_disk.server.hold_watches(1.0)
    stage.assign(1, 1, next(iter(stage.world.nodes)), planned=False)
    stage.world.map_disk.server.compact()


def late(stage: Stage) -> None:
    assert stage.world.map_disk.server is not None
    stage.world.map_disk.server.hold_watches(20.0)


def forgetful(stage: Stage) -> None:
    stage.world.map_disk.skip_watch_events(1.0)


def killed(stage: Stage) -> None:
    stage.kill("etcd")
    stage.restart("etcd")


def frozen(stage: Stage) -> None:
    """It says nothing for longer than any timeout, and is there again."""
    host = stage.world.places["etcd"].host
    host.pause()
    stage.world.network.at(int(6e9), host.resume)


TROUBLE = (silent, cancelled, compacted, late, forgetful, killed, frozen)


@pytest.mark.parametrize("trouble", TROUBLE, ids=lambda trouble: trouble.__name__)
def test_whatever_becomes_of_a_watch_the_route_is_right_again_in_time(
    trouble: Callable[[Stage], None],
) -> None:
    """python etcd clients: a watch dies silently, its end is ignored, an endpoint is banned."""

    async def script(stage: Stage) -> None:
        await stage.serves()
        owner = stage.owner(0)
        other = next(name for name in stage.world.nodes if name != owner)
        last = await stage.next(0)
        trouble(stage)
        stage.assign(0, 0, other, planned=False)
        await stage.until(lambda: stage.owner(0) == other, "the map's will, within 30 s")
        assert await stage.next(0) > last
        nodes = stage.world.nodes.values()
        address = stage.node(other).address
        await stage.until(
            lambda: all(node.router.owner(0) == address for node in nodes), "every route is right"
        )

    played(script, 3, sections=2)


@pytest.mark.parametrize("seed", SEEDS)
def test_without_a_map_owners_serve_on_for_as_long_as_it_takes(seed: int) -> None:
    """python etcd clients: 300 s of a banned endpoint, or a stall of 30 s, are an outage."""

    async def script(stage: Stage) -> None:
        await stage.serves()
        owners = [stage.owner(section) for section in range(2)]
        stage.kill("etcd", silent=True)
        for uid in range(30):
            await stage.passes(1.0)
            assert await stage.next(0, client=f"caller-{uid % 2}") == uid + 1
        assert [stage.owner(section) for section in range(2)] == owners

    played(script, seed, sections=2, kinds=MAP_ALONE)
