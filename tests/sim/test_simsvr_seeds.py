"""Many simulated histories; and that a seed is all that a history depends on."""

import os
import subprocess
import sys

from simsvr.plan import drawn
from simsvr.plots import ALL_KINDS
from simsvr.run import run
from simsvr.stage import Stage

SEEDS = 300


def simulated(*arguments: object, hash_seed: str = "0") -> "subprocess.CompletedProcess[str]":
    """`python -m simsvr`, as anybody runs it."""
    command = [sys.executable, "-m", "simsvr", *map(str, arguments)]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_hundreds_of_seeds_keep_every_promise() -> None:
    done = simulated("--seeds", SEEDS, "--jobs", 2)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)


def test_a_seed_is_all_that_a_history_depends_on() -> None:
    """Neither the hashes of strings, nor what else the process has run, make a difference."""
    alone = simulated("--seed", 7, "--verbose", "--lines", 100_000, hash_seed="7").stdout
    story = alone[: alone.index("1 seeds in")]
    assert "serves section" in story
    again = "from simsvr.run import run; run(5); run(6); print(run(7, lines=100_000).story)"
    environment = {**os.environ, "PYTHONHASHSEED": "11"}
    command = [sys.executable, "-c", again]
    after_others = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    )
    assert after_others.stdout == story


def test_replicas_are_replaced_in_a_quarter_of_the_histories() -> None:
    """And the arbiters get to the end of it, or none of those histories would say anything."""
    reforming = [seed for seed in range(400) if drawn(seed, ALL_KINDS).reforming]
    assert 80 <= len(reforming) <= 120
    show = "from simsvr.run import run; print(*(run(s, lines=10**6).story for s in {}))"
    program = show.format(reforming[:3])
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-c", program]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    for step in ("are learners now", "count together now", "new replicas count alone now"):
        assert step in told.stdout
    assert "state=done" in told.stdout


def test_a_turn_that_never_ends_is_a_violation_and_not_a_run_that_never_ends() -> None:
    async def script(stage: Stage) -> None:
        await stage.serves()
        try:
            while stage.world.loop.time() < 10**6:
                pass
        except RuntimeError:  # as the product may take it for a failure of something else
            pass

    found = run(0, script=script).violations
    assert any("a turn without end" in str(violation) for violation in found), found
