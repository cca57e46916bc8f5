"""The least that `allocsvr` needs: an etcd of one member, one StoreSvr, and a map (R = W = N = 1).

world.py      OneStore: the map is written by hand, and so are the assignments: there is no arbiter
children.py   Child: a process with its output in files
"""

from one_store.children import Child, alive, eventually
from one_store.world import SECTIONS, SIZE, OneStore

__all__ = ["SECTIONS", "SIZE", "Child", "OneStore", "alive", "eventually"]
