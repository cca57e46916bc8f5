"""An etcd that lies when told to: a gRPC server over the generated stubs, all state in memory.

state.py    keys, revisions, history, leases, transactions; honest
server.py   FakeEtcd: the services, and the lies
"""

from fake_etcd.server import FakeEtcd
from fake_etcd.state import State

__all__ = ["FakeEtcd", "State"]
