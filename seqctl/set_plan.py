"""What `seqctl set create` and `set retire` decide: from the map to its next documents. Pure.

A Set is made without sections and goes without sections; in between, jobs move them. Its
assignments outlive it: routing versions are sums over all of them (ROUTE-1), and a Set of the same
name that comes later goes on above the epochs that they hold.
"""

from collections.abc import Mapping

from clustermap.model import Assignments, SetSpec, assignments_key, set_key
from clustermap.orders import Orders
from seqctl.cluster_plan import Wanted, check_stores, spec_of
from seqctl.failures import NotDone
from seqctl.map_view import Change, View
from seqsvr.v1 import store_pb2 as pb

_LAYOUT = ("cluster", "section_size", "uid_limit")


def creation(
    found: View, wanted: Wanted, infos: Mapping[str, pb.InfoResponse]
) -> tuple[SetSpec, Change]:
    """A new Set without sections. wanted: of one Set; infos: as cluster_plan.plan takes them.

    Raises NotDone where the map or a replica says that it cannot be.
    """
    one = wanted.sets[0]
    if one.name in found.specs:
        raise NotDone(f"refused, nothing was written: the map has a Set {one.name!r} already")
    check_stores(wanted, infos)
    wrong = _foreign(found, wanted, infos)
    if wrong:
        raise NotDone(f"refused, nothing was written: {'; '.join(wrong)}")
    spec = spec_of(wanted, one, (), infos)
    key, history = set_key(spec.name), assignments_key(spec.name)
    puts: dict[str, bytes | None] = {key: spec.to_json()}
    if history not in found.entries:
        puts[history] = Assignments(spec.name).to_json()
    return spec, Change(found.at(key, history), puts)


def retirement(found: View, name: str) -> tuple[SetSpec, Change]:
    """The Set out of the map; raises NotDone while anything is left of it."""
    spec = found.spec(name)
    if spec.ranges:
        raise NotDone(
            f"Set {name} has {spec.sections} sections: move them first"
            f" (seqctl move plan --from {name} --to OTHER --all)"
        )
    found.check_free([name])
    if found.document(name).entries:
        raise NotDone(
            f"Set {name} has no sections, but its assignments have: seqctl cluster status"
        )
    key, orders = set_key(name), found.ordering(Orders(name))
    expected = found.at(key, assignments_key(name))
    if name not in found.orders:
        return spec, Change(expected, {key: None})
    # A later Set of this name begins without them.
    return spec, Change({**expected, **orders.expected}, {key: None, **orders.puts})


def _foreign(found: View, wanted: Wanted, infos: Mapping[str, pb.InfoResponse]) -> list[str]:
    """Replicas of another cluster, or of another Set of this one."""
    cluster = found.cluster
    ours = dict(zip(_LAYOUT, (cluster.id, cluster.section_size, cluster.uid_limit), strict=True))
    wrong = []
    for address in wanted.addresses:
        for name, value in ours.items():
            told = getattr(infos[address], name)
            if told != value:
                wrong.append(f"{address} has {name} {told!r}, the map {value!r}")
    for spec in found.specs.values():
        for replica in spec.replicas:
            if replica.address in wanted.addresses:
                wrong.append(f"{replica.address} is a replica of Set {spec.name}")
    return wrong
