"""A Set whose replicas are replaced again and again: real replicas, leases and acquisitions.

world.py   World: owners, what is on its way, time, and what must hold (SEQ-1, SEQ-2, LEASE-1)
stores.py  Store: the host of a replica, which crashes and comes back
owners.py  Owner: the host of an incarnation, which may use any version of the map's
job.py     Job: changes the membership, step by step, by the rules, or without one of them
"""

from life_of_a_membership.world import Found, World, life

__all__ = ["Found", "World", "life"]
