"""Scripts played on simulated clusters, with all checkers looking on."""

from dataclasses import replace

from simsvr.faults import KINDS
from simsvr.plan import Plan, drawn
from simsvr.run import Outcome, run
from simsvr.stage import Script

SEEDS = range(2)
DISTURBED = ("a script",)


def played(script: Script, seed: int, **plan: object) -> Outcome:
    """A script on a small cluster without any other callers; every promise must be kept.

    plan: what is not as drawn from the seed. kinds=() says that only planned things are done.
    """
    nobody = {"clients": 0, "resharding": False, "reforming": False}
    given = {**nobody, "nodes": 3, "wild": False, "kinds": DISTURBED} | plan
    own: Plan = replace(drawn(seed, KINDS), **given)  # type: ignore[arg-type]
    outcome = run(seed, plan=own, script=script, lines=60)
    assert outcome.ok, "\n".join([outcome.story, *map(str, outcome.violations)])
    return outcome
