"""What the shared parts of a cluster can fail with, named by what their users can do about it."""


class ReplicaFailed(Exception):
    """A StoreSvr replica gave no usable answer, so it is not counted (NRW-2).

    reason: a name of seqsvr.v1.StoreReason without its prefix, or UNREACHABLE or TIMEOUT, after
    which the outcome of the request is unknown; membership: the replica's own version, where that
    is why; 0: it is not.
    """

    def __init__(self, reason: str, text: str, *, membership: int = 0) -> None:
        super().__init__(f"{reason}: {text}")
        self.reason = reason
        self.text = text
        self.membership = membership


class MapUnavailable(Exception):
    """The cluster map could not be read or written. Delays a change, never breaks a promise."""


class MapCorrupt(Exception):
    """A document of the cluster map cannot be read as one; the text says which and why."""
