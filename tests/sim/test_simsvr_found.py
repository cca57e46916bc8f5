"""What the simulator has found in our own code, told again as short stories."""

import pytest

import on_stage
from seqsvr.errors import SeqError
from simsvr.stage import Script, Stage


def played(script: Script, seed: int) -> None:
    on_stage.played(script, seed, nodes=2, arbiters=1, kinds=())


@pytest.mark.parametrize("seed", range(3))
def test_attempts_of_one_node_do_not_spend_the_epochs_of_one_another(seed: int) -> None:
    """A loss of an attempt was reported with the promise that the node's own next one had got, so
    that one was given another epoch too, and so on without end where disks are slow.
    """

    async def script(stage: Stage) -> None:
        await stage.serves()
        stage.kill("store-2")
        stage.world.disks[1].least_ns = 1_000_000_000
        owner = stage.owner(0)
        assert owner is not None
        for _ in range(3):
            stage.assign(0, 0, owner, planned=False)
            await stage.passes(0.3)
        assigned = stage.assignments().owner(0)
        assert assigned is not None
        await stage.serves(0)
        node = stage.node(stage.owner(0) or "")
        assert node.ledger.sections[0].epoch <= assigned.epoch + 1

    played(script, seed)


@pytest.mark.parametrize("level", [False, True], ids=["lower", "equal"])
@pytest.mark.parametrize("seed", range(3))
def test_callers_find_their_way_when_the_map_went_back_and_every_node_is_new(
    seed: int, level: bool
) -> None:
    """level: the new map happens to have come to the very version that the callers know.

    The table of a caller never falls (ROUTE-1), and nobody but callers remembered how far it had
    come: they went on asking nodes that owned nothing, until they were started again.
    """

    async def script(stage: Stage) -> None:
        await stage.serves()
        nodes = list(stage.world.nodes)
        for _ in range(4):
            for name in nodes:
                stage.assign(0, stage.world.plan.sections - 1, name, planned=True)
                await stage.passes(0.5)
        uids = [s * stage.world.plan.section_size for s in range(stage.world.plan.sections)]
        last = await stage.next_many(uids)
        for name in nodes:
            stage.kill(name)
        stage.world.wipe_map()
        for name in nodes:
            stage.restart(name)
        await stage.serves()
        stage.kill("arbiter-0")  # nothing moves to where its caller looks for it
        if level:
            stage.level_with("caller")
        for section, uid in enumerate(uids):
            assert await _in_the_end(stage, uid) > last[section]

    played(script, seed)


@pytest.mark.parametrize("seed", range(3))
def test_callers_leave_an_owner_that_is_cut_off_from_all_but_them(seed: int) -> None:
    """It said that it could not reach its stores, for ever, and nobody asked another node."""

    async def script(stage: Stage) -> None:
        await stage.serves()
        owner = stage.owner(0)
        assert owner is not None
        last = await stage.next(0)
        others = [name for name in stage.world.places if name != owner]
        stage.cut(*((owner, other) for other in others))
        await stage.serves(0, without=owner)
        assert await _in_the_end(stage, 0) > last

    played(script, seed)


async def _in_the_end(stage: Stage, uid: int) -> int:
    """A number, with as many calls as it takes."""
    until_ns = stage.world.loop.now_ns + 15 * 10**9
    while True:
        try:
            return await stage.next(uid)
        except SeqError:
            assert stage.world.loop.now_ns < until_ns, "callers are led astray"
