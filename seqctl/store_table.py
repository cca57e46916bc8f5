"""What `seqctl store list` shows: each store that the map names, and what it says itself. Pure."""

from collections.abc import Iterator, Mapping

from clustermap.documents import hex64
from clustermap.model import Replica, SetSpec
from seqctl.map_view import View
from seqsvr.v1 import store_pb2 as pb

COLUMNS = ("Set", "replica", "address", "store", "role", "membership", "records", "state")


def stores(found: View) -> list[str]:
    """The addresses of all."""
    return sorted({one.address for spec in found.specs.values() for one, _ in _roles(spec)})


def rows(found: View, infos: Mapping[str, pb.InfoResponse | str]) -> list[dict[str, object]]:
    """By Set; infos: by address, a string: why there is none."""
    return [
        _row(spec, one, role, infos.get(one.address, "not asked"))
        for _, spec in sorted(found.specs.items())
        for one, role in _roles(spec)
    ]


def _roles(spec: SetSpec) -> Iterator[tuple[Replica, str]]:
    new = spec.joint.replicas if spec.joint else spec.replicas
    for one in spec.replicas:
        yield one, "counted" if one in new else "leaving"
    for one in new:
        if one not in spec.replicas:
            yield one, "joining"
    for one in spec.learners:
        yield one, "learner"


def _row(spec: SetSpec, one: Replica, role: str, info: pb.InfoResponse | str) -> dict[str, object]:
    known = None if isinstance(info, str) else info
    return {
        "set": spec.name,
        "name": one.name,
        "address": one.address,
        "store_id": hex64(one.store_id),
        "role": role,
        "membership": known.membership if known else None,
        "records": known.sections if known else None,
        "state": _state(spec, one, info),
    }


def _state(spec: SetSpec, one: Replica, info: pb.InfoResponse | str) -> str:
    if isinstance(info, str):
        return f"no answer: {info}"
    if info.store_id != one.store_id:
        return f"another store: {hex64(info.store_id)}"
    if info.out_of_quorum:
        return f"out of the quorum: {info.out_of_quorum}"
    if info.retired:
        return "retired"
    if info.learning:
        return "learning"
    return "well" if info.membership == spec.membership else "at another membership"
