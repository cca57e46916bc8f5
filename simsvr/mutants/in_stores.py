"""Bugs in StoreSvr: what a replica remembers, and what it answers."""

from simsvr.mutants.patches import Hunk, Mutant

REPLICA = "storesvr/replica.py"
COMMITS = "storesvr/commits.py"
RECORDS = "storesvr/records.py"
LEASES = "storesvr/leases.py"
REPAIR = "storesvr/repair.py"
RENEWAL = "allocsvr/renewal.py"

NO_FALL = Hunk(
    REPLICA,
    "        if new.max_seq < old.max_seq or new.promised < old.promised:\n",
    "        if new.promised < old.promised:\n",
)

STORES = (
    Mutant(
        "no-promise-at-fence",
        ("FENCE-1", "LEASE-1", "SEQ-2"),
        "a fence is answered, and nothing is remembered of it: older raises go on",
        (
            Hunk(
                REPLICA,
                "        new = self._promised(record, epoch)\n"
                "        self._stage(record, new)\n"
                "        return new, True\n",
                "        return record._replace(promised=epoch), True\n",
            ),
        ),
    ),
    Mutant(
        "promise-in-memory-only",
        ("SEQ-2", "FENCE-1", "LEASE-1"),
        "a fence tells the lease holders, but its promise is not written: older raises go on",
        (
            Hunk(
                REPLICA,
                "        self._stage(record, new)\n        return new, True\n",
                "        return new, True\n",
            ),
        ),
    ),
    Mutant(
        "raise-below-promise",
        ("FENCE-1", "LEASE-1", "SEQ-2"),
        "a raise of an epoch below the promise is taken",
        (
            Hunk(
                REPLICA,
                "        if epoch < record.promised:\n            return False\n"
                "        if record.is_sealed",
                "        if record.is_sealed",
            ),
            Hunk(
                REPLICA,
                "new = record._replace(promised=epoch, max_seq=max_seq, fence_version=version)",
                "new = record._replace(max_seq=max_seq, fence_version=version)",
            ),
        ),
    ),
    Mutant(
        "blind-put",
        ("NRW-1", "SEQ-2"),
        "a raise that comes late puts max_seq back to what it says",
        (
            Hunk(REPLICA, "        max_seq = max(record.max_seq, max_seq)\n", ""),
            NO_FALL,
        ),
        with_it="the invariant of Replica._stage, which stops the process instead",
    ),
    Mutant(
        "answer-before-fsync",
        ("SEQ-3", "NRW-1", "FENCE-1", "NRW-2", "SEQ-2"),
        "replicas answer while the commit is on its way",
        (
            Hunk(
                COMMITS,
                "        staged = self._replica.take_staged()\n",
                "        staged = self._replica.take_staged()\n"
                "        for writer, answer in answers:\n"
                "            if not writer.answer.done():\n"
                "                writer.answer.set_result(answer)\n",
            ),
        ),
    ),
    Mutant(
        "checksum-ignored",
        ("NRW-2", "NRW-1"),
        "a record in which a bit has flipped is read as if it were sound",
        (
            Hunk(
                RECORDS,
                '    if _crc32c(value[:-4]) != int.from_bytes(value[-4:], "big"):\n',
                "    if not value:\n",
            ),
        ),
    ),
    Mutant(
        "no-boot-grace",
        ("LEASE-1",),
        "a replica that has just started takes the leases that it forgot for none",
        (
            Hunk(
                LEASES,
                "        return max(0, self._grace_end_ns - now_ns)\n",
                "        return 0\n",
            ),
        ),
    ),
    Mutant(
        "fence-version-forgotten",
        ("LEASE-1", "SEQ-2"),
        "a replica counts its promises from 0 again after a start, and holders miss some",
        (
            Hunk(REPLICA, "                self._version = record.fence_version\n", ""),
            Hunk(
                REPLICA,
                " and since <= self._durable_version\n",
                "\n",
            ),
            Hunk(
                RENEWAL,
                "        if answer.store_id == request.since_store_id and "
                "answer.fence_version < request.since:\n",
                "        if not answer.store_id:\n",
            ),
        ),
        with_it="both looks at a version that falls: with either, everything is told again or the"
        " replica is not counted any more",
    ),
    Mutant(
        "repair-writes-older",
        ("NRW-1",),
        "repair puts a replica back to what another one had when it was read",
        (
            Hunk(
                REPAIR,
                "        max_seq=max(ours.max_seq, theirs.max_seq),\n",
                "        max_seq=theirs.max_seq,\n",
            ),
            NO_FALL,
        ),
        with_it="the invariant of Replica._stage, which stops the process instead",
    ),
    Mutant(
        "epoch-used-twice",
        ("LEASE-1", "SEQ-2", "SEQ-5"),
        "a map that was wiped gives an epoch to a second owner, and replicas let it have it",
        (
            Hunk(
                REPLICA,
                "        if epoch <= record.promised:\n            return record, False\n",
                "        if epoch < record.promised:\n            return record, False\n",
            ),
            Hunk(
                REPLICA,
                "        if epoch == record.owner_epoch and incarnation != record.owner:\n"
                "            return False\n",
                "",
            ),
        ),
        with_it="both rules of a replica by which an epoch is its first owner's alone; what the"
        " map does alone is harmless",
    ),
)
