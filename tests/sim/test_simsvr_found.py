"""What the simulator has found in our own code, told again as short stories."""

from dataclasses import replace

import pytest

from simsvr.faults import KINDS
from simsvr.plan import drawn
from simsvr.run import run
from simsvr.stage import Script, Stage


def played(script: Script, seed: int) -> None:
    plan = replace(drawn(seed, KINDS), clients=0, nodes=2, arbiters=1, wild=False, kinds=())
    outcome = run(seed, plan=plan, script=script, lines=60)
    assert outcome.ok, "\n".join([outcome.story, *map(str, outcome.violations)])


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
