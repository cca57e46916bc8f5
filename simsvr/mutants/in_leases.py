"""Bugs in who may answer, and until when: leases, waits and fence notices."""

from simsvr.mutants.patches import Hunk, Mutant

LEASE = "allocsvr/lease.py"
RENEWAL = "allocsvr/renewal.py"
ACQUISITION = "allocsvr/acquisition.py"
LEDGER = "allocsvr/ledger.py"
PRESENCE = "allocsvr/presence.py"

LEASE_BUGS = (
    Mutant(
        "lease-counted-from-the-answer",
        ("LEASE-1",),
        "an owner's lease begins when it hears of it, which may be long after it was granted",
        (
            Hunk(
                RENEWAL,
                "        self._grants.granted(index, sent_ns)\n",
                "        self._grants.granted(index, self._clock.now_ns())\n",
            ),
        ),
    ),
    Mutant(
        "greatest-grant",
        ("LEASE-1",),
        "one replica's grant is enough to go on, and the next owner need not ask that one",
        (
            Hunk(
                LEASE,
                "sorted(u for i, u in enumerate(until) if members >> i & 1)[-need]",
                "max(u for i, u in enumerate(until) if members >> i & 1 and need)",
            ),
        ),
    ),
    Mutant(
        "no-drift-margin",
        ("LEASE-1",),
        "an owner with a slow clock goes on until its lease has ended by a fast one",
        (
            Hunk(
                LEASE,
                "        self.margin_ns = int(2 * max_drift * ttl_ns) + 1\n",
                "        self.margin_ns = 0\n",
            ),
        ),
    ),
    Mutant(
        "lease-never-ends",
        ("LEASE-1",),
        "whoever once held a lease answers without looking at it again",
        (
            Hunk(
                LEASE,
                "        return now_ns < self.deadline_ns\n",
                "        return 0 < self.deadline_ns\n",
            ),
        ),
    ),
    Mutant(
        "no-wait-for-the-old-lease",
        ("LEASE-1",),
        "a new owner begins while the old one may still answer from memory",
        (
            Hunk(
                ACQUISITION,
                "                at + wait_ns(answer.left_ns(owner), max_drift) "
                "for _, at, answer in self._answers\n",
                "                at for _, at, answer in self._answers\n",
            ),
        ),
    ),
    Mutant(
        "shortest-lease-waited-for",
        ("LEASE-1",),
        "of what R replicas say of the old lease, the shortest is waited for",
        (
            Hunk(
                ACQUISITION,
                "            self.ready_ns = max(\n",
                "            self.ready_ns = min(\n",
            ),
        ),
    ),
    Mutant(
        "fence-notice-not-sticky",
        ("LEASE-1",),
        "an owner that was told to stop begins again with the next grant that says nothing of it",
        (
            Hunk(LEASE, "                highest[section] = epoch\n", ""),
            Hunk(
                LEASE,
                '("deadline_ns", "margin_ns", "ttl_ns")',
                '("deadline_ns", "margin_ns", "stopped", "ttl_ns")',
            ),
            Hunk(
                LEASE,
                "        self.deadline_ns = 0\n",
                "        self.deadline_ns = 0\n        self.stopped: list[object] = []\n",
            ),
            Hunk(
                LEDGER,
                "                self.lose(held)\n                lost.append(held)\n",
                "                held.serving = False\n"
                "                held._show()\n"
                "                self.lease.stopped.append(held)\n",
            ),
            Hunk(
                RENEWAL,
                "        for promise in answer.promises:\n",
                "        for section in self._lease.stopped:\n"
                "            section.serving = True\n"
                "            section._show()\n"
                "        self._lease.stopped.clear()\n"
                "        for promise in answer.promises:\n",
            ),
        ),
    ),
    Mutant(
        "current-without-lease",
        ("SEQ-4",),
        "current is answered from memory however long ago the lease has ended",
        (
            Hunk(
                LEDGER,
                "        answers.exact = [False] * len(uids)\n"
                "        lapsed = not self.lease.held(now_ns)\n",
                "        answers.exact = [False] * len(uids)\n        lapsed = False\n",
            ),
        ),
    ),
    Mutant(
        "serves-only-while-registered",
        ("LEASE-2",),
        "an owner that cannot register with the map for a while gives up what it serves",
        (
            Hunk(
                PRESENCE,
                "                    if wait_s == RETRY_S:  # once per outage\n",
                "                    if wait_s > RETRY_S:\n"
                "                        self._node._drop([*self._node.ledger.sections.values()])\n"
                "                    if wait_s == RETRY_S:  # once per outage\n",
            ),
        ),
    ),
)
