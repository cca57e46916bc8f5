"""All planted bugs."""

from simsvr.mutants.in_clients import CLIENTS
from simsvr.mutants.in_leases import LEASE_BUGS
from simsvr.mutants.in_moves import MOVES
from simsvr.mutants.in_owners import OWNERS
from simsvr.mutants.in_stores import STORES
from simsvr.mutants.patches import Mutant

ALL: tuple[Mutant, ...] = (*STORES, *OWNERS, *LEASE_BUGS, *MOVES, *CLIENTS)


def named(name: str) -> Mutant:
    """The bug of this name. Raises KeyError."""
    return {mutant.name: mutant for mutant in ALL}[name]
