"""How the uid space is cut into sections, and the bounds of a call.

A section is `section_size` adjacent uids; its id is `uid // section_size` and a uid's place in it
`uid % section_size`. The size is fixed for a cluster's life: docs/PROTOCOL.md, "Words".
"""

from dataclasses import dataclass

SECTION_SIZE = 100_000
UID_LIMIT = 2**32
SEQ_LIMIT = 2**63 - 1
STEP = 10_000
MAX_COUNT = 10_000
MAX_BATCH = 4_096
MAX_JUMP = 10_000_000
"""How far a uid is advanced at a time unless said otherwise: 1000 messages a day make less in 27
years, while times, ids of rows and ids of snowflakes, given by mistake, are nearly all above it."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The two numbers that every party of a cluster must agree on."""

    section_size: int = SECTION_SIZE
    uid_limit: int = UID_LIMIT

    def __post_init__(self) -> None:
        if not 1 <= self.section_size <= 2**32:
            raise ValueError(f"section_size must be in 1..2^32, not {self.section_size}")
        if not 1 <= self.uid_limit <= 2**63:
            raise ValueError(f"uid_limit must be in 1..2^63, not {self.uid_limit}")

    @property
    def sections(self) -> int:
        """How many sections there are; the last one may be short."""
        return -(-self.uid_limit // self.section_size)

    def section_of(self, uid: int) -> int:
        return uid // self.section_size
