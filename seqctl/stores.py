"""`seqctl store`: the replicas of Sets, shown, compared, repaired, compacted and changed."""

import argparse
import time
from pathlib import Path

from clustermap.coordinator import Coordinator
from clustermap.jobs import Job, State
from seqctl import arguments, changing, credentials, map_arguments, remote, store_data
from seqctl.changing import actor, audited, confirm
from seqctl.cluster_asking import ask_stores
from seqctl.credentials import credentials_of
from seqctl.failures import OK, NotDone
from seqctl.following import followed, job_as_json
from seqctl.groups import Group, add_output
from seqctl.map_view import Change, View
from seqctl.output import print_json, print_table, say
from seqctl.reform_plan import Asked, Reformed, addresses, reformed, turned
from seqctl.store_table import COLUMNS, rows, stores
from seqctl.writing import looked, written

_HOW = (
    "The newcomer is a StoreSvr that was just started on an empty directory with --create, the"
    " --cluster and --set of the others, and a --replica name that no other has. It is filled while"
    " the Set serves; then old and new replicas count together, then the new ones alone. No call"
    " fails. The arbiter does it, and goes on with it whoever leads; `seqctl store list` shows how"
    " far it is."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The commands of `seqctl store`."""
    group = Group(parser)
    listed = group.add(
        "list",
        "show the replicas of all Sets, and changes of them",
        run_list,
        example="seqctl store list -o json",
    )
    scrub = group.add(
        "scrub",
        "read every record of every replica, and say which are corrupt or behind",
        store_data.run_scrub,
        example="seqctl store scrub a",
        more="Each record is verified by its checksum. Leaves with 1 if anything is wrong.",
    )
    repair = group.add(
        "repair",
        "bring replicas that are behind level, now",
        store_data.run_repair,
        example="seqctl store repair a",
        more="Nodes do this in the background, too; records only ever rise by it.",
    )
    compact = group.add(
        "compact",
        "make the data file of a store that does not run as small as it can be",
        store_data.run_compact,
        example="seqctl store compact --data /var/lib/seqsvr/store",
    )
    compact.add_argument("--data", metavar="DIR", type=Path, required=True, help="of the store")
    changing.add_arguments(compact)
    add_output(compact)
    for command in (scrub, repair):
        command.add_argument("sets", metavar="SET", nargs="*", help="default: all")
    changing.add_arguments(repair)
    for command in (listed, scrub, repair):
        remote.add_arguments(command)
        credentials.add_arguments(command)
        add_output(command)
    _add_changes(group)


def _add_changes(group: Group) -> None:
    add = group.add(
        "add",
        "give a Set another replica, or more",
        run_add,
        example="seqctl store add a 10.0.1.4:7421 10.0.1.5:7421 --wait --yes",
        more=_HOW,
    )
    replaced = group.add(
        "replace",
        "put a blank store in the place of a replica, which may be dead",
        run_replace,
        example="seqctl store replace a store-2 10.0.1.4:7421 --wait --yes",
        more=_HOW,
    )
    remove = group.add(
        "remove",
        "take replicas away from a Set",
        run_remove,
        example="seqctl store remove a store-3 store-4 --wait --yes",
    )
    for command in (add, replaced, remove):
        command.add_argument("set", metavar="SET", type=map_arguments.name)
    replaced.add_argument("old", metavar="REPLICA", type=map_arguments.name, help="its name")
    replaced.add_argument("new", metavar="HOST:PORT", type=_address, help="of the blank store")
    add.add_argument("new", metavar="HOST:PORT", nargs="+", type=_address)
    remove.add_argument("old", metavar="REPLICA", nargs="+", type=map_arguments.name)
    for command in (add, remove):
        for name in ("r", "w"):
            command.add_argument(
                f"-{name}",
                metavar="N",
                type=arguments.positive,
                help="then needed (default: the smallest majority)",
            )
    pause = group.add(
        "pause", "let a change of replicas rest", run_pause, example="seqctl store pause reform-1"
    )
    resume = group.add(
        "resume",
        "go on with a change of replicas that rests, or that failed",
        run_resume,
        example="seqctl store resume reform-1 --wait",
    )
    abort = group.add(
        "abort",
        "take a change of replicas back, as long as the new ones do not count alone",
        run_abort,
        example="seqctl store abort reform-1 --wait --yes",
    )
    for command in (pause, resume, abort):
        command.add_argument("id", metavar="JOB", type=map_arguments.name)
    for command in (add, replaced, remove, resume, abort):
        command.add_argument(
            "--wait", action="store_true", help="until it has ended; leaves with 3 if not well"
        )
    for command in (add, replaced, remove, pause, resume, abort):
        changing.add_arguments(command, dangerous=command not in (pause, resume))
        remote.add_arguments(command)
        credentials.add_arguments(command)
        add_output(command)


def run_list(args: argparse.Namespace) -> int:
    """0, however they are."""
    return remote.run(args, lambda coordinator: _list(args, coordinator))


def run_add(args: argparse.Namespace) -> int:
    """0 if the change is under way; with --wait: if it is done."""
    return _reform(args, Asked(args.set, tuple(args.new), (), args.r, args.w))


def run_replace(args: argparse.Namespace) -> int:
    """The same."""
    return _reform(args, Asked(args.set, (args.new,), (args.old,)))


def run_remove(args: argparse.Namespace) -> int:
    """The same."""
    return _reform(args, Asked(args.set, (), tuple(args.old), args.r, args.w))


def run_pause(args: argparse.Namespace) -> int:
    """0 if it is to rest."""
    return remote.run(args, lambda coordinator: _turn(args, coordinator, State.PAUSED))


def run_resume(args: argparse.Namespace) -> int:
    """0 if it goes on; with --wait: if it is done."""
    return remote.run(args, lambda coordinator: _turn(args, coordinator, State.RUNNING))


def run_abort(args: argparse.Namespace) -> int:
    """0 if it is being taken back; with --wait: if it was."""
    return remote.run(args, lambda coordinator: _turn(args, coordinator, State.ABORTING))


async def _list(args: argparse.Namespace, coordinator: Coordinator) -> int:
    found = await looked(coordinator)
    infos = await ask_stores(stores(found), args.timeout, credentials_of(args))
    shown = rows(found, infos)
    jobs = [job_as_json(job) for job in found.jobs.values() if job.reform]
    if args.output == "json":
        print_json({"stores": shown, "jobs": jobs})
        return OK
    print_table(COLUMNS, [["" if v is None else v for v in row.values()] for row in shown])
    for job in jobs:
        say(f"job {job['id']}: {job['state']}, {job['copied']} sections copied; {job['note']}")
    return OK


def _reform(args: argparse.Namespace, asked: Asked) -> int:
    return remote.run(args, lambda coordinator: _change(args, coordinator, asked))


async def _change(args: argparse.Namespace, coordinator: Coordinator, asked: Asked) -> int:
    found = await looked(coordinator)
    infos = await ask_stores(addresses(found, asked), args.timeout, credentials_of(args))
    by, now_s = actor(), int(time.time())

    def decide(seen: View) -> tuple[Reformed, Change]:
        return reformed(seen, asked, infos, by=by, created_s=now_s)

    made, _ = decide(found)
    if args.dry_run:
        return _tell(args, made.job, made)
    steps = "; then ".join(made.steps)
    confirm(args, f"{' '.join([*made.warnings, ''])}Set {asked.set}: {steps}. Start?")
    async with audited(f"store {made.job.id}, Set {asked.set}: {steps}", coordinator):
        made = await written(coordinator, decide)
    return await _end(args, coordinator, made.job, State.DONE, found, made)


async def _turn(args: argparse.Namespace, coordinator: Coordinator, state: State) -> int:
    def decide(seen: View) -> tuple[Job, Change]:
        return turned(seen, args.id, state)

    found = await looked(coordinator)
    job, _ = decide(found)
    if args.dry_run:
        return _tell(args, job, None)
    if state is State.ABORTING:
        confirm(args, f"Take {args.id} back, to the replicas of before?")
    async with audited(f"store {args.id}: {state.value}", coordinator):
        job = await written(coordinator, decide)
    if state is State.PAUSED:
        return _tell(args, job, None)
    good = State.ABORTED if state is State.ABORTING else State.DONE
    return await _end(args, coordinator, job, good, found, None)


async def _end(
    args: argparse.Namespace,
    coordinator: Coordinator,
    job: Job,
    good: State,
    found: View,
    made: Reformed | None,
) -> int:
    """Wait for the job if that was asked for. Raises NotDone where it ends in another state."""
    if not args.wait:
        return _tell(args, job, made)
    total = found.spec(job.reform.set).sections if job.reform else 0
    job = await followed(coordinator, job, total)
    _tell(args, job, made)
    if job.state is not good:
        raise NotDone(f"job {job.id} is {job.state.value}: {job.note}")
    return OK


def _tell(args: argparse.Namespace, job: Job, made: Reformed | None) -> int:
    warnings = list(made.warnings) if made else []
    if args.output == "json":
        more = {"steps": list(made.steps), "warnings": warnings} if made else {}
        print_json({"written": not args.dry_run, **job_as_json(job), **more})
        return OK
    if args.dry_run:
        say("would be as follows, nothing was written:")
    for number, step in enumerate(made.steps if made else (), start=1):
        say(f"{number}. {step}")
    for warning in warnings:
        say(f"warning: {warning}")
    say(f"job {job.id} is {job.state.value}{': ' if job.note else ''}{job.note}")
    return OK


def _address(text: str) -> str:
    found = arguments.addresses(text)
    if len(found) != 1:
        raise argparse.ArgumentTypeError(f"must be one HOST:PORT, not {text!r}")
    return found[0]
