"""Arbiters over a map of this process, nodes that are nothing but registrations, and probes.

world.py    a map with Sets, nodes that come and go, arbiters that run
faults.py   coordinators that hold writes up, deny them or lose their answers
"""

from arbiter_world.faults import Meddler
from arbiter_world.world import PATIENCE_S, FakeProber, World, eventually

__all__ = ["PATIENCE_S", "FakeProber", "Meddler", "World", "eventually"]
