"""ROUTE-1, in the client: neither its table nor what it believes of an owner goes back."""

from collections.abc import Hashable

from seqcheck.violations import Checker, Violation, event

_Seen = tuple[int, int]  # version or epoch, when


class Routes(Checker):
    """ROUTE-1 (docs/PROTOCOL.md, sections 2 and 6). client: whatever tells clients apart."""

    promise = "ROUTE-1"
    __slots__ = ("_epochs", "_versions")

    def __init__(self) -> None:
        super().__init__()
        self._versions: dict[Hashable, _Seen] = {}
        self._epochs: dict[tuple[Hashable, int], _Seen] = {}

    def installed(self, at_ns: int, client: Hashable, version: int) -> Violation | None:
        """A client took a table of this version for its own. O(1)."""
        before, since_ns = self._versions.get(client, (0, 0))
        if version >= before:
            self._versions[client] = version, at_ns
            return None
        return self._broken(
            at_ns,
            f"the table of {client} fell from version {before} to {version}",
            event(since_ns, "installed", client=client, version=before),
            event(at_ns, "installed", client=client, version=version),
        )

    def seen(self, at_ns: int, client: Hashable, section: int, epoch: int) -> Violation | None:
        """A client saw an answer under this epoch and did not, or not yet, accept it. O(1)."""
        if epoch > self._epochs.get((client, section), (0, 0))[0]:
            self._epochs[client, section] = epoch, at_ns
        return None

    def accepted(self, at_ns: int, client: Hashable, section: int, epoch: int) -> Violation | None:
        """A client believed an answer under this epoch; 0 is an epoch not known. O(1)."""
        before, since_ns = self._epochs.get((client, section), (0, 0))
        if epoch >= before or epoch == 0:
            return self.seen(at_ns, client, section, epoch)
        return self._broken(
            at_ns,
            f"{client} accepted epoch {epoch} of section {section} after {before}",
            event(since_ns, "seen", client=client, section=section, epoch=before),
            event(at_ns, "accepted", client=client, section=section, epoch=epoch),
        )
