"""How to reach an etcd cluster, and how long to wait for it."""

from dataclasses import dataclass, field
from pathlib import Path

from seqsvr.tls import Tls


@dataclass(frozen=True, slots=True)
class EtcdOptions:
    """Where etcd is, who we are to it, and the limits of our patience.

    endpoints: HOST:PORT of the members' client ports. prefix: all keys lie under it; ends in "/".
    ca: PEM file of the authority that the members' certificates are checked against; with it, or
    with a certificate, connections are TLS. cert, key: PEM files of our own certificate.
    user, password: where etcd has authentication enabled.

    timeout_s: bounds each operation as a whole; attempt_s: one endpoint's share of it, after which
    the next one is asked; quiet_s: a watch that says nothing for so long is checked;
    election_ttl_s: how long a dead leader stands in the way of the next, at least 2.

    Raises ValueError, which names the field.
    """

    endpoints: tuple[str, ...]
    prefix: str = "/seqsvr/"
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    timeout_s: float = 4.0
    attempt_s: float = 1.0
    quiet_s: float = 1.0
    election_ttl_s: float = 3.0

    def __post_init__(self) -> None:
        if not self.endpoints:
            raise ValueError("endpoints: at least one HOST:PORT is needed")
        for address in self.endpoints:
            host, colon, port = address.rpartition(":")
            if not (host and colon and port.isdecimal()) or "/" in address:
                raise ValueError(f"endpoints: {address!r} is not HOST:PORT")
        if len(set(self.endpoints)) != len(self.endpoints):
            raise ValueError("endpoints: one is named twice")
        # Without it, the keys of "/a" and "/ab" would lie in one map.
        if not self.prefix.endswith("/"):
            raise ValueError(f"prefix: {self.prefix!r} does not end in '/'")
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key: one is of no use without the other")
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password: one is of no use without the other")
        self._check_times()

    def _check_times(self) -> None:
        for name in ("timeout_s", "attempt_s", "quiet_s", "election_ttl_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        if self.attempt_s > self.timeout_s:
            raise ValueError("attempt_s must not be above timeout_s")

    @property
    def tls(self) -> Tls | None:
        """None for connections in the clear."""
        if self.ca is None and self.cert is None:
            return None
        return Tls(self.ca, self.cert, self.key)
