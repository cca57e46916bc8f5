"""Two Sets in one process: replicas over memory, nodes, an arbiter that moves sections, callers.

box.py      TwoSets: the map, both Sets' replicas and nodes, the arbiter; what is durable where
"""

from two_sets.box import PATIENCE_S, TwoSets, open_two_sets

__all__ = ["PATIENCE_S", "TwoSets", "open_two_sets"]
