"""One version of the Set's membership as a node uses it: whom to ask, how, and how many count."""

from collections.abc import Callable
from typing import NamedTuple

from allocsvr.replicas import Replicas
from clustermap.membership import Groups
from seqsvr.v1 import store_pb2 as pb


class Generation(NamedTuple):
    """header: of every request; read, write: who has to answer a fence (R), and a raise (W)."""

    header: pb.StoreHeader
    replicas: Replicas
    read: Groups
    write: Groups

    @property
    def version(self) -> int:
        return self.header.membership


Current = Callable[[], Generation]
"""The one in use just now. What has been asked goes on under the one that it was asked under."""
