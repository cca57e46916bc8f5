"""Bugs in planned moves: releases and the counters that travel with them."""

from simsvr.mutants.patches import Hunk, Mutant

ACQUISITION = "allocsvr/acquisition.py"
WINNING = "allocsvr/winning.py"
MOVING = "allocsvr/moving.py"
NODE = "allocsvr/node.py"

MOVES = (
    Mutant(
        "release-before-serving-stops",
        ("SEQ-2", "SEQ-5", "LEASE-1"),
        "counters are left behind while more numbers still go out",
        (
            Hunk(
                MOVING,
                "            self._stop(live)\n            await self._release(live)\n",
                "            await self._release(live)\n            self._stop(live)\n",
            ),
            Hunk(
                NODE,
                "        await self._releasing.release("
                "[s for s in sections if s.state is State.LEAVING])\n",
                "        await self._releasing.release(sections)\n",
            ),
            Hunk(
                "allocsvr/releasing.py",
                "            if section.state is not State.LEAVING:\n",
                "            if section.state is State.LOST:\n",
            ),
        ),
    ),
    Mutant(
        "stale-snapshot",
        ("SEQ-2",),
        "counters of an earlier owner are taken, though another one has served since",
        (
            Hunk(
                ACQUISITION,
                "            elif answer.owner_epoch == owner_epoch:\n"
                "                released = released or answer.released\n",
                "            if answer.snapshot_epoch > self.snapshot_epoch:\n"
                "                self.snapshot_epoch = answer.snapshot_epoch\n",
            ),
            Hunk(
                ACQUISITION,
                "        if released:\n            self.snapshot_epoch = owner_epoch\n",
                "        if self.snapshot_epoch:\n",
            ),
            Hunk(
                ACQUISITION,
                "if answer.snapshot_epoch == owner_epoch == answer.owner_epoch\n",
                "if answer.snapshot_epoch == self.snapshot_epoch\n",
            ),
        ),
    ),
    Mutant(
        "counters-not-taken-over",
        ("SEQ-5",),
        "a planned move starts from the ceiling, and numbers jump",
        (
            Hunk(
                WINNING,
                "            if start is None and attempt.found:\n",
                "            start = None\n            if start is None and attempt.found:\n",
            ),
        ),
    ),
)
