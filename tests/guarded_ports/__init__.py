"""Ports with their guards, in this process: of a node over a store of its own, of a StoreSvr, and
one as the arbiter's. What protects them is given as options of the servers.

world.py    GuardedPorts: they serve; where each is, how a caller gets to it, the metrics
callers.py  Caller: what somebody shows; token(): a token, and the line that has it in the file
walking.py  every rpc of a port, found by asking the port itself, and what a call of it meets
"""

from guarded_ports.callers import Somebody, entry, written
from guarded_ports.walking import Answer, answered, rpcs_of
from guarded_ports.world import GuardedPorts, guarded

__all__ = [
    "Answer",
    "GuardedPorts",
    "Somebody",
    "answered",
    "entry",
    "guarded",
    "rpcs_of",
    "written",
]
