"""What others got wrong with an owner that is not the owner any more (docs/lessons-map.md)."""

import pytest

from on_stage import SEEDS, played
from simsvr.stage import Stage


@pytest.mark.parametrize("seed", SEEDS)
def test_a_paused_owner_comes_back_and_hands_out_nothing_that_was_handed_out(seed: int) -> None:
    """Vitess #3116, #5590; tikv/pd #8836: a deposed primary with a block in memory."""

    async def script(stage: Stage) -> None:
        await stage.serves()
        owner = stage.owner(0)
        assert owner is not None
        before = await stage.next(0)
        stage.pause(owner)
        await stage.serves(0, without=owner)
        after = await stage.next(0)
        assert after > before
        stage.resume(owner)
        await stage.passes(1.0)
        assert await stage.next(0, client="another") > after

    played(script, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_section_that_goes_away_and_comes_back_goes_on_above(seed: int) -> None:
    """tikv/pd #4885, Vitess #3116: A -> B -> A in one process, with a value left in memory."""

    async def script(stage: Stage) -> None:
        await stage.serves()
        first = stage.owner(0)
        assert first is not None
        other = next(name for name in stage.world.nodes if name != first)
        last = await stage.next(0)
        for planned in (False, True):
            for name in (other, first):
                stage.assign(0, 0, name, planned=planned)
                await stage.until(lambda name=name: stage.owner(0) == name, f"{name} to serve")  # type: ignore[misc]
                now = await stage.next(0)
                assert now > last if not planned else now == last + 1
                last = now

    played(script, seed)
