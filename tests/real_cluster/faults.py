"""Everything that the soak does to a cluster: the faults of the cluster tests, and their kin.

A fault strikes, holds for some seconds, and is undone: first by what it left in `Scene.undo`, then
by `RealCluster.heal`. Whatever it hits is drawn from the scene's random numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from real_cluster import on_everything, on_map, on_owners, on_replicas
from real_cluster.scene import Scene

Group = Literal["owners", "replicas", "etcd", "arbiters", "callers", "everything"]


@dataclass(frozen=True)
class Fault:
    """hold_s: from and to how many seconds it lasts. alone: never together with another one."""

    name: str
    group: Group
    strike: Callable[[Scene], None]
    hold_s: tuple[float, float]
    alone: bool = False


FAULTS = [
    Fault("owner: kill -9", "owners", on_owners.owner_killed, (0, 8)),
    Fault(
        "owner: kill -9, then the next",
        "owners",
        on_owners.owner_and_next_killed,
        (0, 5),
        alone=True,
    ),
    Fault("owner: frozen briefly", "owners", on_owners.owner_frozen, (0.05, 0.5)),
    Fault("owner: frozen for about a lease", "owners", on_owners.owner_frozen, (1.5, 3)),
    Fault("owner: frozen for long", "owners", on_owners.owner_frozen, (5, 10)),
    Fault("owner: graceful restart", "owners", on_owners.owner_drained, (0, 4)),
    Fault("owner: cut off from etcd", "owners", on_owners.owner_without_etcd, (1, 10)),
    Fault("owner: cut off from one replica", "owners", on_owners.owner_without_one_replica, (1, 6)),
    Fault(
        "owner: cut off from two replicas", "owners", on_owners.owner_without_two_replicas, (1, 12)
    ),
    Fault("owner: cut off from callers", "owners", on_owners.owner_without_callers, (1, 5)),
    Fault("owner: cut off from everybody", "owners", on_owners.owner_without_anybody, (1, 10)),
    Fault("owners: all cut off from etcd", "owners", on_owners.all_owners_without_etcd, (1, 8)),
    Fault(
        "owners: each without a replica",
        "owners",
        on_owners.owners_without_one_replica_each,
        (1, 6),
    ),
    Fault(
        "sections: there and back", "owners", on_owners.sections_there_and_back, (0, 1), alone=True
    ),
    Fault("replica: killed", "replicas", on_replicas.replica_killed, (1, 6)),
    Fault("replica: frozen", "replicas", on_replicas.replica_frozen, (1, 6)),
    Fault("replica: blank", "replicas", on_replicas.replica_blank, (2, 6), alone=True),
    Fault(
        "replica: blank, another stopped",
        "replicas",
        on_replicas.replica_blank_and_another_stopped,
        (1, 6),
        alone=True,
    ),
    Fault("replica: bytes flipped", "replicas", on_replicas.replica_flipped, (2, 6), alone=True),
    Fault("replicas: two stopped", "replicas", on_replicas.two_replicas_stopped, (0.5, 6)),
    Fault("etcd: leader killed", "etcd", on_map.etcd_leader_killed, (1, 8)),
    Fault("etcd: leader frozen", "etcd", on_map.etcd_leader_frozen, (1, 8)),
    Fault("etcd: leader cut off", "etcd", on_map.etcd_leader_cut_off, (1, 8)),
    Fault("etcd: all stopped", "etcd", on_map.etcd_stopped, (1, 20)),
    Fault("etcd: wiped, init --adopt", "etcd", on_map.etcd_wiped, (0, 5), alone=True),
    Fault("arbiter: killed", "arbiters", on_map.arbiter_killed, (1, 6)),
    Fault("arbiter: frozen", "arbiters", on_map.arbiter_frozen, (1, 8)),
    Fault("arbiter: cut off from etcd", "arbiters", on_map.arbiter_without_etcd, (1, 8)),
    Fault("arbiters: cut off from owners", "arbiters", on_map.arbiters_without_nodes, (1, 8)),
    Fault(
        "arbiter: killed as it replaces",
        "arbiters",
        on_map.arbiter_killed_while_it_replaces,
        (1, 8),
    ),
    Fault("arbiter: killed in a drain", "arbiters", on_map.arbiter_killed_in_a_drain, (0, 5)),
    Fault(
        "arbiter: frozen, owner: kill -9",
        "arbiters",
        on_map.arbiter_frozen_while_owner_killed,
        (4, 9),
    ),
    Fault("callers: all cut off", "callers", on_everything.callers_cut_off, (1, 5)),
    Fault(
        "callers: one process cut off",
        "callers",
        on_everything.one_process_of_callers_cut_off,
        (1, 5),
    ),
    Fault("Set: all killed", "everything", on_everything.set_killed, (0, 4)),
    Fault("cluster: all killed", "everything", on_everything.all_killed, (0, 3), alone=True),
    Fault(
        "cluster: rolling restart", "everything", on_everything.rolling_restart, (0, 1), alone=True
    ),
]

LAST = Fault(
    "replica: old copy restored",
    "replicas",
    on_replicas.replica_restored_from_old_copy,
    (1, 4),
    alone=True,
)
"""How a run ends: until such a replica is replaced it counts as lost, and no other may be lost
meanwhile (NRW-1), so nothing else can follow it."""

BY_NAME = {fault.name: fault for fault in (*FAULTS, LAST)}
