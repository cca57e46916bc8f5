"""All planted bugs."""

from simsvr.mutants.in_clients import CLIENTS
from simsvr.mutants.in_leases import LEASE_BUGS
from simsvr.mutants.in_memberships import MEMBERSHIPS
from simsvr.mutants.in_moves import MOVES
from simsvr.mutants.in_owners import OWNERS
from simsvr.mutants.in_reshards import RESHARDS
from simsvr.mutants.in_stores import STORES
from simsvr.mutants.patches import Mutant

ALL: tuple[Mutant, ...] = (
    *STORES,
    *OWNERS,
    *LEASE_BUGS,
    *MOVES,
    *RESHARDS,
    *MEMBERSHIPS,
    *CLIENTS,
)

HARMLESS = (
    (
        "waits that are not multiplied by 1 + 2 * max_drift",
        "an owner gives 2 * max_drift of its time to live away, so with clocks that are off by d it"
        " ends after at most ttl * (1 - 2d) / (1 - d) of true time. No clock that is fast by d"
        " counts ttl in less than ttl / (1 + d), which is more",
    ),
    (
        "a seal left out, or an epoch used again, where sections move between Sets",
        "both show only where the map is restored or wrong, and such faults are kept from runs with"
        " two Sets; tests/property/test_arbitersvr_moving_machine.py has them, and finds both",
    ),
    (
        "rule 1 of changes of replicas left out, so that the next version is begun too early",
        "that is kept twice: the R old replicas that a copy is read from have adopted the joint"
        " version, and leave no W of the one before. tests/property/test_life_of_a_membership.py"
        " leaves out both, and finds it",
    ),
)
"""Bugs of the same kind that are not planted, and why."""


def named(name: str) -> Mutant:
    """The bug of this name. Raises KeyError."""
    return {mutant.name: mutant for mutant in ALL}[name]
