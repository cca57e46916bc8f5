"""AllocSvr processes as they register themselves in the cluster map. Pure values."""

from dataclasses import dataclass, field

from clustermap.documents import U64_MAX, Fields, decode, encode, hex64
from clustermap.model import Owner, check_address, check_id, check_name, peer_field
from clustermap.ranges import SECTION_MAX

MAX_HOT = 64


@dataclass(frozen=True, slots=True)
class Load:
    """What a node says of itself, for the arbiter to balance by and the operator to see.

    per_second: numbers handed out per second, all sections together, smoothed; hot: (section,
    numbers per second) of its busiest sections, at most MAX_HOT, the rest share what is left;
    serving, acquiring, leaving: how many sections are in that state.
    """

    per_second: int = 0
    hot: tuple[tuple[int, int], ...] = ()
    serving: int = 0
    acquiring: int = 0
    leaving: int = 0

    def __post_init__(self) -> None:
        if len(self.hot) > MAX_HOT:
            raise ValueError(f"at most {MAX_HOT} hot sections, not {len(self.hot)}")

    def fields(self) -> dict[str, object]:
        return {
            "per_second": self.per_second,
            "hot": [{"section": section, "per_second": rate} for section, rate in self.hot],
            "serving": self.serving,
            "acquiring": self.acquiring,
            "leaving": self.leaving,
        }

    @classmethod
    def read(cls, fields: Fields) -> "Load":
        return cls(
            fields.integer("per_second", 0, U64_MAX),
            fields.many("hot", _read_hot),
            fields.integer("serving", 0, U64_MAX),
            fields.integer("acquiring", 0, U64_MAX),
            fields.integer("leaving", 0, U64_MAX),
        )


def _read_hot(fields: Fields) -> tuple[int, int]:
    return fields.integer("section", 0, SECTION_MAX), fields.integer("per_second", 0, U64_MAX)


@dataclass(frozen=True, slots=True)
class Node:
    """An AllocSvr process: who it is, where callers reach it (peer_address: as of Owner), its Set.

    draining: it asks to be relieved of its sections. leased: it holds its lease at W replicas, as
    far as it knows; one that says that it does not, for long, is given up (docs/PROTOCOL.md,
    section 5).
    """

    incarnation: int
    address: str
    set: str
    draining: bool = False
    leased: bool = True
    load: Load = field(default_factory=Load)
    peer_address: str = ""

    def __post_init__(self) -> None:
        check_id("incarnation", self.incarnation)
        check_name("Set", self.set)
        check_address(self.address)
        check_address(self.peer_address)

    @property
    def owner(self) -> Owner:
        return Owner(self.incarnation, self.address, self.peer_address)

    def to_json(self) -> bytes:
        return encode(
            {
                "incarnation": hex64(self.incarnation),
                "address": self.address,
                "set": self.set,
                "draining": self.draining,
                "leased": self.leased,
                "load": self.load.fields(),
                **peer_field(self.peer_address),
            }
        )

    @classmethod
    def from_json(cls, raw: bytes) -> "Node":
        """Raises MapCorrupt."""
        return decode("node", raw, cls._read)

    @classmethod
    def _read(cls, fields: Fields) -> "Node":
        return cls(
            fields.hex64("incarnation"),
            fields.text("address"),
            fields.text("set"),
            fields.flag("draining"),
            fields.flag("leased"),
            fields.one("load", Load.read),
            fields.maybe_text("peer_address"),
        )
