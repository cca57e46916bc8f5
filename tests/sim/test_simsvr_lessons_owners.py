"""What others got wrong when an owner changes, done to our code (docs/lessons-map.md)."""

import asyncio
from contextlib import suppress

import pytest

from on_stage import SEEDS, played
from seqsvr.errors import SeqError
from simsvr.hosts import here
from simsvr.network import Weather
from simsvr.stage import Stage
from storesvr.records import decode

STORES = ("store-0", "store-1", "store-2")


async def owned(stage: Stage, section: int = 0) -> tuple[str, str]:
    """Wait until everything is served: the owner of a section, and a node that is not."""
    await stage.serves()
    owner = stage.owner(section)
    assert owner is not None
    return owner, next(name for name in stage.world.nodes if name != owner)


def holds_lease(stage: Stage, name: str) -> bool:
    node = stage.node(name)
    return node.ledger.lease.held(node.host.boot_ns)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_lease_from_one_replica_is_none(seed: int) -> None:
    """fzully: the lease is the greatest expiry that any replica has granted, not the W-th."""

    async def script(stage: Stage) -> None:
        owner, _ = await owned(stage)
        last = await stage.next(0)
        assert holds_lease(stage, owner)
        stage.cut((owner, "store-1"), (owner, "store-2"))
        ttl_s = stage.world.plan.lease_ttl_s
        for _ in range(40):
            await stage.passes(ttl_s / 20)
            if not holds_lease(stage, owner):
                break
        assert not holds_lease(stage, owner)
        await stage.serves(0, without=owner)
        assert await stage.next(0) > last

    played(script, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_lease_counts_from_before_it_was_asked_for_and_is_waited_out(seed: int) -> None:
    """nebula-im: the lease counts from the answer, and a section that was gained serves at once."""

    async def script(stage: Stage) -> None:
        owner, other = await owned(stage)
        last = await stage.next(0)
        slow = Weather(least_ns=700_000_000)  # answers; within what a renewal may take
        stage.weather(slow, *((store, owner) for store in STORES), both=False)
        await stage.passes(2.0)
        assert holds_lease(stage, owner)
        stage.cut(*((owner, peer) for peer in (*STORES, "etcd", other)))
        cut_ns = stage.world.loop.now_ns
        stage.assign(0, 0, other, planned=False)
        while stage.owner(0) == owner or stage.owner(0) is None:
            assert stage.world.loop.now_ns < cut_ns + int(10e9), "nobody takes over"
            await stage.passes(0.005)
        assert not holds_lease(stage, owner)
        assert stage.world.loop.now_ns > cut_ns + int(0.8e9), "the old lease is waited out"
        stage.mend()
        assert await stage.next(0) > last

    played(script, seed, sections=2)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_owner_that_was_deposed_writes_nothing_that_counts_when_it_goes(seed: int) -> None:
    """TiDB #46444: an ex-leader writes its stale value back while it exits."""

    async def script(stage: Stage) -> None:
        owner, other = await owned(stage)
        last = await stage.next(0, 5)
        stage.pause(owner)
        stage.assign(0, 0, other, planned=False)
        await stage.serves(0, without=owner)
        now_owner = stage.owner(0)
        assert now_owner is not None
        last = await stage.next(0, client="another")
        stored = stage.stored(0)
        stage.drain(owner)
        stage.resume(owner)
        await stage.passes(4.0)
        assert stage.owner(0) == now_owner
        for index, disk in enumerate(stage.world.disks):
            record = decode(0, disk.records[0])
            if record.owner == stage.node(now_owner).incarnation:
                assert not record.released
            assert stage.stored(0)[index] >= stored[index]
        assert await stage.next(0, client="another") == last + 1, "no owner has changed"

    played(script, seed, sections=2)


@pytest.mark.parametrize("late_s", [1.2, 3.2])
def test_what_a_deposed_owner_has_sent_and_comes_late_counts_for_nothing(late_s: float) -> None:
    """TiDB #46444 again: its write is under way while the next one fences, or serves already."""

    async def script(stage: Stage) -> None:
        owner, other = await owned(stage)
        await stage.next(0)
        stage.weather(
            Weather(least_ns=int(late_s * 1e9)), *((owner, store) for store in STORES), both=False
        )
        await stage.next(0, 5)  # past the low-water mark: a raise is under way
        stage.cut((owner, "etcd"))
        stage.assign(0, 0, other, planned=False)
        until_ns = stage.world.loop.now_ns + int(5e9)
        while stage.world.loop.now_ns < until_ns:
            with suppress(SeqError):
                await stage.next(0)
            if stage.owner(0) == other:
                with suppress(SeqError):
                    await stage.next(0, client="another")
            await stage.passes(0.02)
        assert stage.owner(0) == other
        await stage.recovers()

    played(script, 0, step=8, sections=2)


@pytest.mark.parametrize("seed", SEEDS)
def test_callers_that_give_up_are_no_dead_server(seed: int) -> None:
    """TiDB #69067: a cancelled caller is taken for a dead server, and the client reconnects."""

    async def script(stage: Stage) -> None:
        await stage.serves()
        await stage.next(0, client="one")
        opened: list[str] = []
        open_channel = stage.world.wires.open_channel

        def counted(address: str, options: object = None) -> object:
            if here().name == "one":
                opened.append(address)
            return open_channel(address, options)

        stage.world.wires.open_channel = counted  # type: ignore[method-assign, assignment]
        for index in range(3):
            stage.stall_disk(index, 0.15)  # so that calls have to wait for a raise
        calls = [asyncio.ensure_future(stage.next(0, 3, client="one")) for _ in range(40)]
        await stage.passes(0.02)
        waiting = [call for call in calls if not call.done()]
        for call in waiting[::2]:
            call.cancel()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert len(waiting) > 10
        given_up = sum(isinstance(answer, asyncio.CancelledError) for answer in answers)
        assert given_up == len(waiting[::2])
        firsts = [answer for answer in answers if isinstance(answer, int)]
        assert len(firsts) == len(calls) - given_up, "the others are answered"
        assert len(set(firsts)) == len(firsts)
        await stage.next(0, client="one")
        assert not opened

    played(script, seed, step=8, sections=2)


HARM = ("kill", "power", "pause", "isolate", "stores", "seize", "planned", "drain", "wipe", "all")


@pytest.mark.parametrize("harm", HARM)
def test_numbers_go_on_above_in_every_kind_of_fail_over(harm: str) -> None:
    """Redis #6062, gim #32, turms #1569, tikv/pd #8836 #8889 #9077: 91, then 81, and no error.

    Under load, and with every history checked.
    """

    async def script(stage: Stage) -> None:
        await stage.passes(1.0)
        owner, other = await owned(stage)
        last = await stage.next(0)
        for name in (owner, other) if harm == "all" else (owner,):
            harmed(stage, harm, name, other)
            await stage.passes(0.3)
        leaves = harm not in ("wipe", "all")
        await stage.serves(0, without=owner if leaves else None)
        now = await stage.next(0, client="another")
        assert now > last
        await stage.recovers()
        assert await stage.next(0, client="a third") > now

    outcome = played(script, 1, clients=1, callers=3, sections=2, step=8)
    assert outcome.calls > 15


def harmed(stage: Stage, harm: str, owner: str, other: str) -> None:
    if harm in ("kill", "power", "all"):
        stage.kill(owner, silent=harm == "power")
        if harm == "all":
            stage.restart(owner)
    elif harm == "pause":
        stage.pause(owner)
    elif harm in ("isolate", "stores"):
        peers = [name for name in stage.world.network.hosts if name != owner]
        stage.cut(*((owner, peer) for peer in (STORES if harm == "stores" else peers)))
    elif harm == "drain":
        stage.drain(owner)
    elif harm == "wipe":
        stage.world.wipe_map()
    else:
        stage.assign(0, 0, other, planned=harm == "planned")


@pytest.mark.parametrize("seed", SEEDS)
def test_current_says_what_was_handed_out_and_a_ceiling_only_as_such(seed: int) -> None:
    """OpenIM #3249 #3436 #2667: current is the ceiling that was reserved; clients chase holes."""

    async def script(stage: Stage) -> None:
        _, other = await owned(stage)
        assert await stage.current(0) == (0, True), "nothing was ever handed out"
        last = await stage.next(0, 3) + 2
        assert await stage.current(0) == (last, True)
        stage.assign(0, 0, other, planned=True)
        await stage.until(lambda: stage.owner(0) == other, "a planned move")
        assert await stage.current(0) == (last, True), "planned moves keep it exact"
        assert await stage.next(0) == last + 1
        stage.kill(other)
        await stage.serves(0, without=other)
        ceiling, exact = await stage.current(0, client="another")
        assert not exact
        assert last < ceiling <= max(stage.stored(0))
        assert await stage.next(0, client="another") == ceiling + 1
        assert await stage.current(0, client="another") == (ceiling + 1, True)

    played(script, seed, kinds=())


@pytest.mark.parametrize("seed", SEEDS)
def test_a_record_that_was_spoilt_is_said_to_be_and_never_counted(seed: int) -> None:
    """LMDB: a byte that has flipped is read back as another value, and nothing is said."""

    async def script(stage: Stage) -> None:
        owner, _ = await owned(stage)
        last = await stage.next(0, 5)
        await stage.passes(0.2)  # nothing is on its way to the disk that would make it good
        stage.spoil_disk(0)
        stage.kill("store-0")
        stage.restart("store-0")
        stage.kill(owner)
        await stage.serves(0, without=owner)
        assert await stage.next(0) > last
        await stage.passes(1.0)
        assert stage.world.services["store-0"].out_of_quorum
        stage.kill("store-1")  # one more, and there is no quorum
        await stage.passes(3.0)
        assert stage.owner(0) is None
        with pytest.raises(SeqError):
            await stage.next(0)
        await stage.recovers()

    played(script, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_full_disk_ends_one_replica_and_nothing_else(seed: int) -> None:
    """LMDB: a full disk kills the process, or worse, a commit that failed counts."""

    async def script(stage: Stage) -> None:
        await stage.serves()
        await stage.next(0)
        stage.fill_disk(0)
        for _ in range(30):
            await stage.next(0, 3)
        assert stage.world.places["store-0"].ended, "it does not go on as if nothing had happened"
        behind = stage.stored(0)
        assert behind[0] < behind[1]
        await stage.recovers()
        await stage.passes(2 * stage.world.plan.repair_period_s)
        with suppress(SeqError):
            await stage.next(0)
        assert stage.stored(0)[0] >= behind[1], "and it is brought level"

    played(script, seed, step=8)
