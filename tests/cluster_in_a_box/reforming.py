"""Changes who is counted in a box, step by step, as the job of the arbiter does.

`reform` is the whole of it; a test that breaks off in the middle takes its steps by themselves.
"""

from dataclasses import replace

from cluster_in_a_box.box import SET, Box
from clustermap.membership import is_filled, is_over
from clustermap.model import Joint, Replica, SetSpec, set_key
from seqsvr.v1 import store_pb2 as pb


async def written(box: Box) -> SetSpec:
    """What the map says."""
    return SetSpec.from_json((await box.coordinator.get(set_key(SET))).entries[set_key(SET)].value)


async def write(box: Box, spec: SetSpec) -> SetSpec:
    await box.coordinator.transact({}, {set_key(SET): spec.to_json()})
    return spec


async def adopt(
    box: Box, spec: SetSpec, *replicas: Replica, learning: bool = False, retired: bool = False
) -> None:
    header = pb.StoreHeader(cluster=box.cluster.id, set=SET, membership=spec.membership)
    for one in replicas:
        request = pb.AdoptRequest(
            header=header, learning=learning, retired=retired, store_id=one.store_id
        )
        await box.store(one).adopt(request)


async def copy(box: Box, spec: SetSpec, source: list[Replica], *targets: Replica) -> None:
    """Whole records of the sources, to each of the targets."""
    header = pb.StoreHeader(cluster=box.cluster.id, set=SET, membership=spec.membership)
    last = box.cluster.layout.sections - 1
    for one in source:
        first = 0
        while True:
            scan = pb.ScanRequest(header=header, first=first, last=last, with_snapshots=True)
            found = await box.store(one).scan(scan)
            for target in targets:
                request = pb.PutAtLeastRequest(
                    header=header, records=found.records, with_promises=True
                )
                await box.store(target).put_at_least(request)
            if not found.next:
                break
            first = found.next


async def join(box: Box, new: tuple[Replica, ...], r: int, w: int) -> SetSpec:
    """The joint version is written, and adopted by all who are up."""
    spec = await written(box)
    joint = replace(spec, membership=spec.membership + 1, joint=Joint(new, r, w), learners=())
    await write(box, joint)
    newcomers = [one for one in new if one not in spec.replicas]
    await adopt(box, joint, *spec.replicas)
    await adopt(box, joint, *newcomers, learning=True)
    assert is_over(spec, {one.store_id for one in spec.replicas}), "rule 1"
    return joint


async def fill(box: Box, joint: SetSpec) -> None:
    """The newcomers, and whoever else has to, get what R of the old ones have; then they count."""
    assert joint.joint is not None
    await copy(box, joint, list(joint.replicas[: joint.r]), *joint.joint.replicas)
    assert is_filled(joint, {one.store_id for one in joint.joint.replicas}), "rule 2"
    await adopt(box, joint, *[one for one in joint.joint.replicas if one not in joint.replicas])


async def switch(box: Box) -> SetSpec:
    """The new ones alone."""
    joint = await written(box)
    assert joint.joint is not None
    replicas, r, w = joint.joint.replicas, joint.joint.r, joint.joint.w
    alone = replace(joint, membership=joint.membership + 1, replicas=replicas, r=r, w=w, joint=None)
    await write(box, alone)
    await adopt(box, alone, *replicas)
    await adopt(box, alone, *[one for one in joint.replicas if one not in replicas], retired=True)
    return alone


async def reform(box: Box, new: tuple[Replica, ...], r: int, w: int) -> SetSpec:
    joint = await join(box, new, r, w)
    await fill(box, joint)
    return await switch(box)
