"""`seqctl move verify`: asks the replicas of both Sets whether a move has left things as it should.

They are read by Scan, which promises nothing and changes nothing. Where the map has changed
meanwhile what was read is not judged, but read again.
"""

import argparse
import asyncio
from collections.abc import Callable, Sequence

import grpc

from clustermap.coordinator import Coordinator
from clustermap.jobs import Move, job_key
from clustermap.model import Cluster, Replica, SetSpec, set_key
from seqctl import remote
from seqctl.credentials import credentials_of
from seqctl.failures import OK, VIOLATION, NotDone
from seqctl.move_plan import found_move
from seqctl.move_verdict import Finding, Records, Seen, concerned, findings
from seqctl.output import print_json, print_table, say
from seqctl.progress import progress
from seqctl.writing import looked
from seqsvr.credentials import PLAIN, Credentials
from seqsvr.v1 import store_pb2 as pb
from seqsvr.v1 import store_pb2_grpc

PAGE = 4_096
TRIES = 3
_OPTIONS = [("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1)]


def run(args: argparse.Namespace) -> int:
    """0 if it is clean, 1 and the sections in question if not, 3 if that cannot be told."""
    return remote.run(args, lambda coordinator: _verify(args, coordinator))


async def _verify(args: argparse.Namespace, coordinator: Coordinator) -> int:
    job, move, wrong = await judged(coordinator, args.id, args.timeout, credentials_of(args))
    if args.output == "json":
        print_json(
            {
                "id": job,
                "clean": not wrong,
                "sections": move.sections,
                "findings": [one._asdict() for one in wrong],
            }
        )
    elif wrong:
        print_table(("sections", "finding"), [(f"{f}..{last}", text) for f, last, text in wrong])
    else:
        say(f"clean: {move.sections} sections, each with one Set")
    return VIOLATION if wrong else OK


async def judged(
    coordinator: Coordinator, name: str, timeout_s: float, credentials: Credentials = PLAIN
) -> tuple[str, Move, list[Finding]]:
    """What is wrong with a move. Raises NotDone where too few replicas answer."""
    for _ in range(TRIES):
        found = await looked(coordinator)
        job, move = found_move(found, name)
        specs = concerned(found, move)
        answers = await _read(found.cluster, specs, move, timeout_s, credentials)
        keys = [job_key(name), *(set_key(spec.name) for spec in specs)]
        if (await looked(coordinator)).at(*keys) == found.at(*keys):
            return job.id, move, findings(found, move, answers)
    raise NotDone("the map changes faster than the replicas can be read: pause the move first")


async def _read(
    cluster: Cluster,
    specs: Sequence[SetSpec],
    move: Move,
    timeout_s: float,
    credentials: Credentials,
) -> dict[str, list[Records]]:
    """By Set, what each replica that answers has; at least R of each."""
    read = 0

    def note(sections: int) -> None:
        nonlocal read
        read += sections

    asked = [(spec, replica) for spec in specs for replica in spec.replicas]
    async with progress("sections read", len(asked) * move.sections, lambda: read):
        told = await asyncio.gather(
            *(
                _scan(cluster, spec, replica, move, timeout_s, credentials, note)
                for spec, replica in asked
            )
        )
    found: dict[str, list[Records]] = {}
    failed: dict[str, list[str]] = {}
    for (spec, replica), records in zip(asked, told, strict=True):
        if isinstance(records, str):
            failed.setdefault(spec.name, []).append(f"{replica.address}: {records}")
        else:
            found.setdefault(spec.name, []).append(records)
    for spec in specs:
        if len(found.get(spec.name, ())) < spec.r:
            why = "; ".join(failed[spec.name])
            raise NotDone(f"fewer than {spec.r} replicas of Set {spec.name} answer: {why}")
    return found


async def _scan(
    cluster: Cluster,
    spec: SetSpec,
    replica: Replica,
    move: Move,
    timeout_s: float,
    credentials: Credentials,
    note: Callable[[int], None],
) -> Records | str:
    """What one replica has of the sections of a move, or why that is not known."""
    header = pb.StoreHeader(cluster=cluster.id, set=spec.name, membership=spec.membership)
    found: dict[int, Seen] = {}
    async with credentials.channel(replica.address, _OPTIONS) as channel:
        stub = store_pb2_grpc.StoreStub(channel)  # type: ignore[no-untyped-call]
        try:
            for first, last in move.ranges:
                at = first
                while at <= last:
                    end = min(last, at + PAGE - 1)
                    request = pb.ScanRequest(header=header, first=at, last=end, limit=PAGE)
                    async with asyncio.timeout(timeout_s):
                        answer: pb.ScanResponse = await stub.Scan(
                            request, metadata=credentials.metadata()
                        )
                    if answer.store_id != replica.store_id:
                        return f"another store, {answer.store_id:016x}"
                    for one in answer.records:
                        found[one.section] = Seen(one.max_seq, one.owner_epoch, one.sealed)
                    after = answer.next or end + 1
                    note(after - at)
                    at = after
        except TimeoutError:
            return f"no answer in {timeout_s:g} s"
        except grpc.aio.AioRpcError as error:
            return " ".join(f"{error.code().name}: {error.details()}".split())
    return found
