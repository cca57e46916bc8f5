"""Checkers: one object for each promise of docs/PROTOCOL.md, named for what it checks.

Two kinds. Functions over *finished calls*, as clients recorded them (`history.py`): what anybody
can check from outside. Objects that *follow a run* in true time (the others): what takes somebody
who looks into every process and disk at once, as the simulator does. Both are pure.

`CHECKERS` maps each promise id to all that checks it; LIVE is liveness, which no promise covers.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from seqcheck.calls import Call
from seqcheck.dense import Dense
from seqcheck.durable import Durable
from seqcheck.fencing import Fencing
from seqcheck.handed_out import HandedOut
from seqcheck.history import (
    Report,
    advance_reaches_its_floor,
    check,
    check_uid,
    current_is_whole,
    current_keeps_order,
    current_was_handed_out,
    epochs,
    order,
    uniqueness,
)
from seqcheck.knowing import OnlyThoseWhoKnow
from seqcheck.liveness import Liveness
from seqcheck.neighbours import Current, Order
from seqcheck.never_falls import NeverFalls
from seqcheck.one_owner import OneOwner
from seqcheck.routes import Routes
from seqcheck.violations import Checker, Event, Violation, event
from seqcheck.without_map import ServesWithoutMap

CHECKERS: Mapping[str, tuple[Callable[..., object], ...]] = MappingProxyType(
    {
        "SEQ-1": (Order, order),
        "SEQ-2": (HandedOut, uniqueness),
        "SEQ-3": (Durable,),
        "SEQ-4": (
            Current,
            current_keeps_order,
            current_is_whole,
            advance_reaches_its_floor,
            current_was_handed_out,
        ),
        "SEQ-5": (Dense,),
        "NRW-1": (NeverFalls,),
        "NRW-2": (OnlyThoseWhoKnow,),
        "FENCE-1": (Fencing,),
        "LEASE-1": (OneOwner,),
        "LEASE-2": (ServesWithoutMap,),
        "ROUTE-1": (Routes, epochs),
        "LIVE": (Liveness,),
    }
)

__all__ = [
    "CHECKERS",
    "Call",
    "Checker",
    "Current",
    "Dense",
    "Durable",
    "Event",
    "Fencing",
    "HandedOut",
    "Liveness",
    "NeverFalls",
    "OneOwner",
    "OnlyThoseWhoKnow",
    "Order",
    "Report",
    "Routes",
    "ServesWithoutMap",
    "Violation",
    "check",
    "check_uid",
    "event",
]
