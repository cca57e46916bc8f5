"""Bugs in changes of a Set's replicas: the rules of clustermap/membership.py, and each half."""

from simsvr.mutants.patches import Hunk, Mutant

MEMBERSHIP = "clustermap/membership.py"
REFORMING = "arbitersvr/reforming.py"

MEMBERSHIPS = (
    Mutant(
        "newcomer-counted-before-its-copy",
        ("NRW-2", "SEQ-2", "SEQ-3", "NRW-1", "FENCE-1", "LEASE-1"),
        "rule 2: a learner answers as if it had been filled",
        (Hunk("storesvr/adoption.py", "    if counting and ours.learning:\n", "    if False:\n"),),
    ),
    Mutant(
        "copied-before-the-joint-version",
        ("NRW-2", "SEQ-2", "SEQ-3", "NRW-1", "FENCE-1", "LEASE-1"),
        "rule 2: what newcomers were given as learners is taken for enough",
        (
            Hunk(
                REFORMING,
                "            if targets and copy.left:\n",
                "            if len(targets) > len(unfilled) and copy.left:\n",
            ),
        ),
    ),
    Mutant(
        "nobody-filled-where-a-set-gets-smaller",
        ("SEQ-2", "SEQ-3", "NRW-1", "NRW-2", "FENCE-1", "LEASE-1"),
        "rule 2: where nobody is new nothing is copied, though those who stay may have missed it",
        (
            Hunk(
                MEMBERSHIP,
                "    return newcomers <= written and (_meets(old, new) or "
                "len(written) >= max(new.r, new.w))\n",
                "    return newcomers <= written and (_meets(old, new) or True)\n",
            ),
        ),
    ),
    Mutant(
        "no-boot-grace-on-adoption",
        ("LEASE-1", "SEQ-2", "SEQ-4"),
        "rule 3: who adopts a version does not say that leases of the one before may still run",
        (
            Hunk(
                "storesvr/replica.py",
                "            self._leases.grace_anew(now_ns + self._grace_ns)\n",
                "",
            ),
        ),
    ),
    Mutant(
        "fence-and-first-raise-under-two-versions",
        ("LEASE-1", "FENCE-1", "SEQ-2"),
        "rule 4: what was fenced under one version is raised first under the next",
        (
            Hunk(
                "allocsvr/winning.py",
                "        if all(attempt.membership == version for attempt in attempts):\n",
                "        if version:\n",
            ),
            Hunk(
                "allocsvr/raising.py",
                "section.state is State.RAISING and section.membership != asked.version\n",
                "section.state is State.RAISING and not asked.version\n",
            ),
        ),
    ),
    Mutant(
        "new-half-left-out",
        ("SEQ-3", "SEQ-2", "NRW-1", "FENCE-1", "LEASE-1"),
        "of a joint version only the old replicas are counted",
        (
            Hunk(
                MEMBERSHIP,
                "        quorums.append((_bits(replicas, new), spec.joint.quorum))\n",
                "        pass\n",
            ),
        ),
    ),
    Mutant(
        "old-half-left-out",
        ("SEQ-3", "SEQ-2", "NRW-1", "FENCE-1", "LEASE-1"),
        "of a joint version only the new replicas are counted",
        (
            Hunk(
                MEMBERSHIP,
                "        quorums.append((_bits(replicas, new), spec.joint.quorum))\n",
                "        quorums = [(_bits(replicas, new), spec.joint.quorum)]\n",
            ),
        ),
    ),
)
