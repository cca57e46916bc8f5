"""Bugs in moves of sections from one Set to another."""

from simsvr.mutants.patches import Hunk, Mutant

MOVING_SETS = "arbitersvr/moving_sets.py"
SETTLING = "arbitersvr/settling.py"

RESHARDS = (
    Mutant(
        "one-set-fenced",
        ("SEQ-2", "LEASE-1", "FENCE-1"),
        "only the Set that is to have the sections is fenced and asked; the other goes on",
        (
            Hunk(
                MOVING_SETS,
                "            for stores in (dest, other)\n        ]\n",
                "            for stores in (dest,)\n        ]\n",
            ),
            Hunk(
                MOVING_SETS,
                "zip((dest, other), inquiries, strict=True)",
                "zip((dest,), inquiries, strict=True)",
            ),
            Hunk(
                MOVING_SETS,
                "        found = [combined(*both) for both in "
                "zip(*(i.found() for i in inquiries), strict=True)]\n",
                "        found = inquiries[0].found()\n",
            ),
        ),
    ),
    Mutant(
        "records-after-the-switch",
        ("SEQ-2", "SEQ-5"),
        "the map gives sections to their new Set before that has their records",
        (
            Hunk(
                MOVING_SETS,
                "        await asking.put(dest, whole)\n"
                "        await self._switch(journal, scene, progress, name, won)\n",
                "        await self._switch(journal, scene, progress, name, won)\n"
                "        await asking.put(dest, whole)\n",
            ),
        ),
    ),
    Mutant(
        "other-set-not-waited-out",
        ("LEASE-1", "SEQ-2"),
        "a move does not wait for the lease of an owner that has not released",
        (Hunk(MOVING_SETS, "        await self._wait(found)\n", ""),),
    ),
    Mutant(
        "counters-of-the-wrong-owner",
        ("SEQ-2", "SEQ-5"),
        "of two Sets the counters of the earlier owner are taken over",
        (
            Hunk(
                SETTLING,
                "    later = max(one, other, key=",
                "    later = min(one, other, key=",
            ),
        ),
    ),
)
