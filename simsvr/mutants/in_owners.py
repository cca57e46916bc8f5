"""Bugs in AllocSvr: how a section is won, served and raised."""

from simsvr.mutants.patches import Hunk, Mutant

ACQUISITION = "allocsvr/acquisition.py"
WINNING = "allocsvr/winning.py"
RAISING = "allocsvr/raising.py"
COUNTERS = "allocsvr/counters.py"
LEDGER = "allocsvr/ledger.py"
SECTION = "allocsvr/section.py"
NODE = "allocsvr/node.py"
REPLICAS = "allocsvr/replicas.py"
SERVICE = "allocsvr/service.py"

OWNERS = (
    Mutant(
        "raise-acknowledged-below-w",
        ("NRW-1", "SEQ-3"),
        "one replica is enough for a raise",
        (
            Hunk(
                RAISING,
                "Ballot(self.sections, asked.write)",
                "Ballot(self.sections, tuple(g._replace(need=g.need - 1) for g in asked.write))",
            ),
        ),
    ),
    Mutant(
        "fence-with-r-1-answers",
        ("SEQ-2", "LEASE-1"),
        "one answer less than R is enough for a fence: it may come from the replica that has"
        " missed the last raise, or the last owner",
        (
            Hunk(
                ACQUISITION,
                "        self._tally = Tally(groups)\n",
                "        self._tally = Tally(tuple(g._replace(need=g.need - 1) for g in groups))\n",
            ),
        ),
    ),
    Mutant(
        "last-answer-instead-of-greatest",
        ("SEQ-2",),
        "max_seq is that of the last answer to the fence, not the greatest",
        (
            Hunk(
                ACQUISITION,
                "            if answer.max_seq > self.found:\n",
                "            if True:\n",
            ),
            Hunk(
                WINNING,
                '        require(max_seq <= attempt.found, "no snapshot is above its max_seq")\n',
                "",
            ),
        ),
        with_it="the invariant that no snapshot is above max_seq, which stops the process instead",
    ),
    Mutant(
        "blank-replica-counts-as-0",
        ("NRW-2", "SEQ-2"),
        "a replica whose disk was lost is asked like any other, and knows of nothing",
        (
            Hunk(
                REPLICAS,
                "        if self._store_ids and answer.store_id != self._store_ids[index]:\n",
                "        if not answer.store_id:\n",
            ),
        ),
    ),
    Mutant(
        "starts-a-step-below",
        ("SEQ-2",),
        "cur_seq starts at max_seq - step: it is not known how far the old owner got",
        (
            Hunk(
                WINNING,
                "            base, pages = start or (attempt.found, None)\n",
                "            base, pages = start or (max(0, attempt.found - self._step), None)\n",
            ),
        ),
    ),
    Mutant(
        "served-before-first-raise",
        ("SEQ-3", "SEQ-5", "SEQ-2"),
        "numbers go out while the raise that covers them is on its way",
        (
            Hunk(
                LEDGER,
                "        self.sections[section.id] = section\n",
                "        self.sections[section.id] = section\n"
                "        section.raised(section.max_seq + section.step)\n"
                "        section.serving = True\n",
            ),
        ),
    ),
    Mutant(
        "one-above-max-seq",
        ("SEQ-3",),
        "the window holds one number more than is durable",
        (
            Hunk(
                SECTION,
                "        return after <= self._room\n",
                "        return after <= self._room + 1\n",
            ),
        ),
    ),
    Mutant(
        "advanced-before-it-is-durable",
        ("SEQ-3", "SEQ-2"),
        "a uid is raised to its floor while the raise of max_seq that covers it is on its way",
        (
            Hunk(
                SECTION,
                "                if not self._fits(distance):\n                    return False\n",
                "                self._fits(distance)\n",
            ),
        ),
    ),
    Mutant(
        "answers-of-two-raises-mixed-up",
        ("NRW-1", "SEQ-3"),
        "two raises of a section are on their way, and the answer to the first is taken for one to"
        " the second",
        (
            Hunk(
                RAISING,
                "        if section not in self._flying:\n"
                "            self._pending[section] = None\n"
                "            self._changed.set()\n",
                "        self._pending[section] = None\n        self._changed.set()\n",
            ),
            Hunk(
                RAISING,
                "        self._flying.update((section, None) for section, _ in batch)\n",
                "        self._flying.update((section, None) for section, _ in batch)\n"
                "        self._asked.update(batch)\n",
            ),
            Hunk(
                RAISING,
                "        self._flights = 0\n",
                "        self._flights = 0\n        self._asked: dict[Section, int] = {}\n",
            ),
            Hunk(
                RAISING,
                "        del self._flying[section]\n",
                "        self._flying.pop(section, None)\n",
            ),
            Hunk(
                RAISING,
                "            self._on_raised(section, target)\n",
                "            self._on_raised(section, self._asked[section])\n",
            ),
            Hunk(
                SECTION,
                "            self.hungry = True\n            self.on_hungry(self)\n",
                "            self.on_hungry(self)\n",
            ),
        ),
        with_it="the rule of one raise in flight per section; answers that are out of order do no"
        " harm by themselves, since a window only grows by what was asked for",
    ),
    Mutant(
        "await-between-check-and-increment",
        ("SEQ-2",),
        "cur_seq is read, something is awaited, and what was read is counted on from",
        (
            Hunk(
                SERVICE,
                "                    response = self._one(request, stream, late, start)\n",
                "                    size = self._node.cluster.section_size\n"
                "                    sections = self._node.ledger.sections\n"
                "                    counters = self._node.ledger.counters\n"
                "                    read = []\n"
                "                    for uid in request.next.uids:\n"
                "                        section = sections.get(uid // size)\n"
                "                        if section and section.touched:\n"
                "                            place = section._at + uid % size\n"
                "                            distance = counters.cells[place]\n"
                "                            read.append((section, section._at, place, distance))\n"
                "                    await asyncio.sleep(0.0005)\n"
                "                    for section, at, place, distance in read:\n"
                "                        if section._at == at:\n"
                "                            counters.cells[place] = distance\n"
                "                    response = self._one(request, stream, late, start)\n",
            ),
        ),
    ),
    Mutant(
        "batches-outlive-the-section",
        ("SEQ-2", "FENCE-1", "LEASE-1"),
        "a section is lost, but batches that are taken as a whole still find it",
        (Hunk(SECTION, "            self._counters.show(self.id, 0, 0, 0, 0)\n", ""),),
    ),
    Mutant(
        "batches-look-at-the-first-entry-only",
        ("SEQ-3", "FENCE-1", "SEQ-2"),
        "where the first entry of a batch is below its low-water mark, all of them are taken",
        (
            Hunk(
                COUNTERS,
                "np.count_nonzero(before >= low):",
                "np.count_nonzero((before >= low)[:1]):",
            ),
        ),
    ),
    Mutant(
        "ceiling-said-to-be-exact",
        ("SEQ-4",),
        "current says of a ceiling that it was handed out",
        (
            Hunk(
                SECTION,
                "return self.base + distance, distance > 0 or self.base == 0",
                "return self.base + distance, True",
            ),
        ),
    ),
)
