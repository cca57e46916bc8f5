"""What an engine can fail with, named by what the replica above it must do.

`EngineCorrupt` (and `CorruptRecord`): the replica leaves the quorum and says why (NRW-2).
`EngineFailed`: nothing is known of the last write, so the process ends and never retries.
The others: the directory is not ours to open, so the process does not start.
"""


class EngineError(Exception):
    """Base of everything an engine raises."""


class EngineFailed(EngineError):
    """A write, a commit or an fsync failed. Fatal: what is on disk is unknown until a restart."""


class EngineCorrupt(EngineError):
    """What is stored contradicts itself, or is less than what had been stored."""


class CorruptRecord(EngineCorrupt):
    """The record or snapshot of one section cannot be believed.

    section: by its key; why: what does not hold.
    """

    def __init__(self, section: int, why: str) -> None:
        super().__init__(f"section {section}: {why}")
        self.section = section
        self.why = why


class CannotOpen(EngineError):
    """The directory cannot be opened as it is; the text says what to do."""


class DirectoryInUse(CannotOpen):
    """Another process holds the data directory."""


class Foreign(CannotOpen):
    """The directory belongs to another cluster, Set or replica, or was made for another layout."""


class Blank(CannotOpen):
    """There is no store in the directory. Never read as a store full of zeros."""
