"""What others got wrong about numbers and windows, done to our code (docs/lessons-map.md)."""

import asyncio
from contextlib import suppress

import pytest

from on_stage import SEEDS, played
from seqsvr.errors import SeqError, SequenceExhausted
from simsvr.network import Weather
from simsvr.stage import Stage


def edges(stage: Stage) -> list[int]:
    """The first and the last uid of every section."""
    size, sections = stage.world.plan.section_size, range(stage.world.plan.sections)
    return [uid for section in sections for uid in (section * size, (section + 1) * size - 1)]


@pytest.mark.parametrize("seed", SEEDS)
def test_after_a_restart_every_section_goes_on_above_not_only_the_first(seed: int) -> None:
    """teamgram, uidgen: a restart fills cur_seq of the first section, all others begin at 0."""

    async def script(stage: Stage) -> None:
        await stage.serves()
        uids = edges(stage)
        for _ in range(3):
            before = await stage.next_many(uids)
        for name in list(stage.world.nodes):
            stage.kill(name)
            stage.restart(name)
        await stage.serves()
        after = await stage.next_many(uids)
        assert all(now > then for now, then in zip(after, before, strict=True)), (before, after)

    played(script, seed, sections=8)


@pytest.mark.parametrize("seed", SEEDS)
def test_callers_of_one_uid_at_one_time_get_a_number_each(seed: int) -> None:
    """teamgram, uidgen: check and increment are two steps, and two callers share a number."""

    async def script(stage: Stage) -> None:
        await stage.serves()
        calls = [stage.next(0, client=f"caller-{index % 3}") for index in range(60)]
        assert sorted(await asyncio.gather(*calls)) == list(range(1, 61))

    played(script, seed, step=8)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_raise_that_fails_is_none_whichever_stores_fail(seed: int) -> None:
    """teamgram, uidgen: a failed save is ignored, and the number handed out all the same."""

    async def script(stage: Stage) -> None:
        await stage.serves()
        last = 0
        for full in ([0], [1], [2], [0, 1], [1, 2]):
            for index in full:
                stage.fill_disk(index)
            enough, failed = len(full) == 1, False
            with suppress(SeqError):
                failed = True
                for _ in range(40 if enough else 1000):
                    now = await stage.next(0, 7)
                    assert now > last
                    last = now + 6
                failed = False
            assert failed != enough, "W replicas are enough, and needed"
            held = sorted(stage.stored(0))[1]
            assert last <= held, f"{last} is handed out, and {held} durable"
            await stage.recovers()

    played(script, seed, step=8)


@pytest.mark.parametrize("seed", SEEDS)
def test_each_uid_of_a_section_counts_for_itself(seed: int) -> None:
    """Petelin, imkuqin-zw: division for remainder, so all uids of a section share a counter."""

    async def script(stage: Stage) -> None:
        await stage.serves()
        size = stage.world.plan.section_size
        uids = [0, 1, size - 1, size, size + 1, *edges(stage)[-2:]]
        for times, uid in enumerate(uids, start=1):
            assert [await stage.next(uid) for _ in range(times)] == list(range(1, times + 1))
        for times, uid in enumerate(uids, start=1):
            assert await stage.current(uid) == (times, True)

    played(script, seed, sections=4)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_value_from_fewer_than_r_replicas_is_none(seed: int) -> None:
    """fzully: one reply is enough to begin with, and no reply is read as 0."""

    async def script(stage: Stage) -> None:
        await stage.serves()
        before = await stage.next(0, 5)
        for name in ("store-0", "store-1", *list(stage.world.nodes)):
            stage.kill(name)
        for name in ("node-0", "node-1", "node-2"):
            stage.restart(name)
        for _ in range(60):
            await stage.passes(0.1)
            assert stage.owner(0) is None
        with pytest.raises(SeqError):
            await stage.next(0)
        stage.restart("store-1")
        await stage.serves(0)
        assert await stage.next(0) > before + 4

    played(script, seed)


@pytest.mark.parametrize("answers", ["first", "last", "blank"])
def test_one_replica_that_knows_less_than_others_decides_nothing(answers: str) -> None:
    """fzully: one reply is enough, and "not found" is read as 0."""

    async def script(stage: Stage) -> None:
        await stage.serves()
        await stage.next(0)
        stage.kill("store-0")
        for _ in range(20):
            before = await stage.next(0, 5)
        behind, *others = stage.stored(0)
        assert behind < before < min(others)
        for name in list(stage.world.nodes):
            stage.kill(name)
        if answers == "blank":
            stage.world.new_disk(0)
        for name in ("store-0", "node-0", "node-1", "node-2"):
            stage.restart(name)
        # The others answer too, but later; "last": one before it, and it completes the quorum.
        stage.stall_disk(0 if answers == "last" else 1, 1.0 if answers == "last" else 2.5)
        stage.stall_disk(2, 2.5)
        await stage.serves(0)
        assert await stage.next(0, client="another") > before + 4

    played(script, 0, step=8, sections=2)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_first_call_after_a_start_succeeds(seed: int) -> None:
    """fzully: whoever calls first is refused, since nothing is loaded yet."""

    async def script(stage: Stage) -> None:
        assert await stage.next_many(edges(stage)) == [1] * len(edges(stage))

    played(script, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_numbers_flow_while_a_raise_is_in_flight(seed: int) -> None:
    """fzully: the lock is held across the write to the quorum."""

    async def script(stage: Stage) -> None:
        await stage.serves()
        await stage.next(0)
        for index in range(3):
            stage.stall_disk(index, 1.2)
        stalled_until_ns = stage.world.loop.now_ns + int(1.2e9 * 0.98)  # by the stores' clocks
        assert [await stage.next(0) for _ in range(39)] == list(range(2, 41))
        owner = stage.owner(0)
        assert owner is not None
        assert stage.node(owner).ledger.sections[0].hungry, "a raise is in flight"
        assert stage.world.loop.now_ns < stalled_until_ns - int(0.5e9)
        assert await stage.next(0) == 41
        assert stage.world.loop.now_ns >= stalled_until_ns, "and what needs it waits for it"

    played(script, seed, step=40)


@pytest.mark.parametrize("seed", SEEDS)
def test_raises_that_overtake_one_another_never_lower_a_window(seed: int) -> None:
    """Tinyid #47: a later segment is used before an earlier one."""

    async def script(stage: Stage) -> None:
        await stage.serves()
        nodes, stores = list(stage.world.nodes), ("store-0", "store-1", "store-2")
        weather = Weather(late=0.4, late_ns=700_000_000, duplicates=0.6)
        stage.weather(weather, *((node, store) for node in nodes for store in stores))
        last = held = 0
        for _ in range(12):
            with suppress(SeqError):
                now = await stage.next(0, 7)
                assert now > last
                last = now + 6
            assert sorted(stage.stored(0))[1] >= max(held, last)
            held = sorted(stage.stored(0))[1]
        assert last > 30, "some of it has to get through"

    played(script, seed, step=8)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_storm_of_restarts_never_takes_a_number_back(seed: int) -> None:
    """Matrix Synapse #17226: the generator goes backwards over restarts."""

    async def script(stage: Stage) -> None:
        await stage.serves()
        last = 0
        for round_ in range(4):
            calls = [stage.next(0, 3, client=f"caller-{index}") for index in range(4)]
            begun = asyncio.gather(*calls, return_exceptions=True)
            await stage.passes(0.004 * round_)
            for name in ("node-0", "node-1", "node-2", "store-0", "store-1", "store-2"):
                stage.kill(name, silent=bool(round_ % 2))
                stage.restart(name)
            done = [seq for seq in await begun if isinstance(seq, int)]
            await stage.serves(0)
            now = await stage.next(0, client="a new caller")
            assert now > max([last, *(seq + 2 for seq in done)])
            last = now

    played(script, seed, step=8)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_store_that_is_ahead_of_all_memory_is_believed_and_no_obstacle(seed: int) -> None:
    """Matrix Synapse #18544: a stored position above the sequence's refuses to start."""

    async def script(stage: Stage) -> None:
        await stage.serves()
        owner = stage.owner(0)
        assert owner is not None
        before = await stage.next(0, 5)
        deaf = [(f"store-{index}", owner) for index in range(3)]
        stage.cut(*deaf, both=False)  # raises arrive, and nobody hears of it
        with suppress(SeqError):
            for _ in range(8):
                before = await stage.next(0, 5)
        low, ceiling = sorted(stage.stored(0))[1:]  # what any two of the replicas know, and one
        assert low > before + 4
        stage.kill(owner)
        stage.mend()
        stage.restart(owner)
        await stage.serves(0)
        assert low < await stage.next(0, client="another") <= ceiling + 1

    played(script, seed, step=8)


@pytest.mark.parametrize("seed", SEEDS)
def test_two_clients_that_take_turns_on_a_uid_see_no_hole(seed: int) -> None:
    """octo-lib #114: blocks per process, so numbers of two replicas do not rise in turn."""

    async def script(stage: Stage) -> None:
        await stage.serves()
        taken = []
        for turn in range(30):
            if turn % 10 == 9:
                other = next(name for name in stage.world.nodes if name != stage.owner(0))
                stage.assign(0, 0, other, planned=True)
                await stage.until(lambda other=other: stage.owner(0) == other, "a planned move")  # type: ignore[misc]
            taken.append(await stage.next(0, client=f"client-{turn % 2}"))
        assert taken == list(range(1, 31))

    played(script, seed, step=8, kinds=())


@pytest.mark.parametrize("seed", SEEDS)
def test_at_the_end_of_the_number_space_the_error_is_clear_and_no_number_wraps(seed: int) -> None:
    """uid-generator #100, ZooKeeper, OpenIM #2391: the number space ran out in production."""

    async def script(stage: Stage) -> None:
        stage.limit(50)
        await stage.serves()
        assert [await stage.next(0) for _ in range(50)] == list(range(1, 51))
        for _ in range(3):
            with pytest.raises(SequenceExhausted):
                await stage.next(0)
        assert await stage.current(0) == (50, True)
        assert await stage.next(1) == 1, "its neighbours go on"
        assert max(stage.stored(0)) == 50

    played(script, seed, step=8)
