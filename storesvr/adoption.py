"""Which versions of the Set's membership a replica takes over, and whom it answers.

clustermap/membership.py has the rules and the argument. The replica's part: its version only rises,
and is durable before it is acknowledged; a request of another version is refused, by the time it
takes effect and not only when it comes in; a learner becomes counted only at its own version, where
those who fill it see to it, and not on the way to the next.
"""

from clustermap.errors import ReplicaFailed
from storesvr.port import Identity


def adopted(ours: Identity, wanted: Identity, *, blank: bool) -> Identity:
    """The identity after Adopt; ours, where it says nothing new.

    wanted: ours but for store_id, membership, learning and retired, as asked for; blank: the store
    has no record, and so may be a newcomer of this very version. Raises ReplicaFailed FOREIGN,
    MALFORMED, MEMBERSHIP.
    """
    if wanted.store_id != ours.store_id:
        text = f"meant for store {wanted.store_id:x}, this is {ours.store_id:x}"
        raise ReplicaFailed("FOREIGN", text)
    if not 1 <= wanted.membership < 2**64 or (wanted.learning and wanted.retired):
        raise ReplicaFailed("MALFORMED", f"nothing to adopt: {wanted}")
    later = wanted.membership > ours.membership
    if later and ours.learning and not (wanted.learning or wanted.retired):
        raise _not_ours(
            f"a learner of {ours.membership} is not filled in {wanted.membership}", ours
        )
    if later or wanted == ours:
        return wanted
    if wanted.membership < ours.membership:
        raise _not_ours(f"{wanted.membership} was adopted before {ours.membership}", ours)
    if wanted.learning and (blank or ours.retired):
        return wanted
    if ours.learning and not wanted.retired:
        return wanted
    raise _not_ours(f"{ours.membership} was adopted as {_standing(ours)}", ours)


def check_membership(ours: Identity, membership: int, *, counting: bool) -> None:
    """Raises ReplicaFailed MEMBERSHIP or LEARNING unless a request of this version is answered.

    counting: the answer is to be counted in a quorum.
    """
    if membership != ours.membership or ours.retired:
        text = f"request of membership {membership} at a store of {ours.membership}"
        raise _not_ours(f"{text}, {_standing(ours)}", ours)
    if counting and ours.learning:
        raise ReplicaFailed("LEARNING", "the store does not have all records yet")


def _standing(ours: Identity) -> str:
    return "retired" if ours.retired else "learning" if ours.learning else "counted"


def _not_ours(text: str, ours: Identity) -> ReplicaFailed:
    return ReplicaFailed("MEMBERSHIP", text, membership=ours.membership)
