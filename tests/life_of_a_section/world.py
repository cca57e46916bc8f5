"""All of them together: true time, hosts with clocks of their own, and what is on its way."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from life_of_a_section.messages import Answer, Kind, Request
from life_of_a_section.owners import N, Owner
from life_of_a_section.stores import Store

TENTHS = 10


@dataclass
class Link:
    """Between an owner's host and a replica's, each way."""

    there: bool = True
    back: bool = True


@dataclass
class World:
    """rates: of clocks, in tenths of the true rate, replicas first.

    true_ns: in steps of ten, so that every clock shows whole numbers.
    """

    rates: list[int]
    true_ns: int = 10_000
    wire: list[Request | Answer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.asked = 0
        self.born = 0
        self.owners: dict[int, Owner] = {}  # by host
        slots = range(len(self.rates) - N)
        self.links = {(slot, store): Link() for slot in slots for store in range(N)}
        self.stores = [Store(store, partial(self.clock, store)) for store in range(N)]

    def clock(self, host: int) -> int:
        return 7_000 * host + self.true_ns * self.rates[host] // TENTHS

    # -- owners

    def owner(self, slot: int) -> Owner:
        """Who lives on an owner's host; somebody new if nobody did."""
        if slot not in self.owners:
            self.born += 1
            incarnation = 100 * self.born + slot
            now = partial(self.clock, N + slot)
            self.owners[slot] = Owner(
                incarnation, now, partial(self._ask, slot, incarnation), partial(self._read, slot)
            )
        return self.owners[slot]

    def _ask(self, slot: int, incarnation: int, store: int, kind: Kind) -> int:
        self.asked += 1
        self.wire.append(Request(store, incarnation, self.asked, kind))
        return self.asked

    def _read(self, slot: int, store: int, epoch: int) -> bytes | None:
        link = self.links[slot, store]
        return self.stores[store].snapshot(epoch) if link.there and link.back else None

    # -- messages

    def deliver(self, message: Request | Answer, *, commit: bool = True) -> None:
        """It arrives, whatever links say. commit: what it makes a replica write is synced too."""
        if isinstance(message, Request):
            self.wire += self.stores[message.store].take(message)
            if commit:
                self.wire += self.stores[message.store].commit()
            return
        for owner in self.owners.values():
            if owner.incarnation == message.owner:
                owner.answered(message)

    def flow(self, reach: Sequence[int] = range(N)) -> None:
        """Whatever is on its way arrives, and what follows from it, where links allow.

        reach: replicas, the nearest first; of the others' messages nothing is heard.
        """
        stuck: list[Request | Answer] = []
        while self.wire:
            at = min(range(len(self.wire)), key=lambda i: self._distance(self.wire[i], reach))
            message = self.wire.pop(at)
            link = self.links[message.owner % 100, message.store]
            open_ = link.there if isinstance(message, Request) else link.back
            if open_ and message.store in reach:
                self.deliver(message)
            else:
                stuck.append(message)
        self.wire = stuck

    @staticmethod
    def _distance(message: Request | Answer, reach: Sequence[int]) -> int:
        return reach.index(message.store) if message.store in reach else N

    def pass_time(self, true_ns: int) -> None:
        self.true_ns += true_ns

    # -- a while in which all is well for one owner

    def serve(self, slot: int, epoch: int, reach: Sequence[int] = range(N)) -> bool:
        """Assign the section, and give its owner all the time that it needs; whether it serves."""
        owner = self.owner(slot)
        owner.assign(epoch)
        for _ in range(16):
            owner.renew()
            owner.wake()
            self.flow(reach)
            if owner.serves or (owner.attempt is None and owner.section is None):
                break
            self.pass_time(100)
        return owner.serves
