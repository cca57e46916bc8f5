"""A whole Set in one process, for tests: replicas over memory, links that fail, nodes, a map.

box.py      Box: the replicas, the map, the nodes, and what is durable
links.py    Link: a replica as one node sees it, with faults switched on and off
calling.py  Caller: calls a node as a service does, and checks SEQ-1..SEQ-4 at each answer
clocks.py   JumpingClock: time that passes only when somebody sleeps
maps.py     FaultyMap: the cluster map as one node sees it, with faults
arbitrating.py  relieving: an arbiter that only relieves draining nodes
"""

from cluster_in_a_box.box import Box, Member, eventually, open_box
from cluster_in_a_box.calling import Caller, NotServed
from cluster_in_a_box.clocks import JumpingClock
from cluster_in_a_box.links import Link
from cluster_in_a_box.maps import FaultyMap

__all__ = [
    "Box",
    "Caller",
    "FaultyMap",
    "JumpingClock",
    "Link",
    "Member",
    "NotServed",
    "eventually",
    "open_box",
]
