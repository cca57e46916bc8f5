"""`seqctl move`: sections from one Set to another, while they are served.

A move is a job in the map: these commands write what is wanted of it, the arbiter that leads does
it, chunk after chunk, and the commands show how far it is.
"""

import argparse
import secrets
import time
from collections.abc import Callable

from clustermap.coordinator import Coordinator
from clustermap.jobs import Job, State
from clustermap.model import SetSpec
from clustermap.ranges import shown
from seqctl import changing, credentials, map_arguments, move_verify, remote
from seqctl.changing import actor, audited, confirm
from seqctl.cluster_asking import ask_stores
from seqctl.credentials import credentials_of
from seqctl.failures import OK, NotDone
from seqctl.following import followed, job_as_json, print_jobs
from seqctl.groups import Group, add_output
from seqctl.map_view import Change, View
from seqctl.move_plan import (
    ALL,
    CHUNK,
    HALF,
    Asked,
    Planned,
    aborted,
    found_move,
    paused,
    planned,
    resumed,
    started,
    unanswered,
)
from seqctl.output import print_json, say
from seqctl.writing import looked, written

_STEPS = (
    "A move is planned, started, and then verified. To split Set a in two: seqctl set create b"
    " --replicas ..., start nodes with --set b, seqctl move plan --from a --to b --half,"
    " seqctl move start ID --wait, seqctl move verify ID. To merge b into a: seqctl move plan"
    " --from b --to a --all, seqctl move start ID --wait, seqctl set retire b."
)

Decide = Callable[[View], tuple[Job, Change]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The commands of `seqctl move`."""
    group = Group(parser)
    plan = group.add(
        "plan",
        "write down a move without starting it, and show what it would do",
        run_plan,
        example="seqctl move plan --from a --to b --half",
        more=_STEPS,
    )
    _add_plan_arguments(plan)
    start = group.add(
        "start",
        "start a planned move, or one that failed",
        run_start,
        example="seqctl move start move-1 --wait --yes",
        more=_STEPS,
    )
    status = group.add(
        "status",
        "show all moves, or one",
        run_status,
        example="seqctl move status move-1 -o json",
    )
    pause = group.add(
        "pause",
        "let a move rest after the step that it is at",
        run_pause,
        example="seqctl move pause move-1",
    )
    resume = group.add(
        "resume", "let a paused move go on", run_resume, example="seqctl move resume move-1"
    )
    abort = group.add(
        "abort",
        "end a move: each section stays whole, with one of the two Sets",
        run_abort,
        example="seqctl move abort move-1 --undo --wait --yes",
        more="What was moved stays where it is, unless --undo takes it back.",
    )
    abort.add_argument(
        "--undo", action="store_true", help="move back what the target has by now, then end"
    )
    verify = group.add(
        "verify",
        "read the replicas of both Sets: is each section of a move with exactly one?",
        move_verify.run,
        example="seqctl move verify move-1",
        more="Leaves with 1 and the sections in question if not. A move that is under way is not"
        " clean yet: the sections that it is at are with the job.",
    )
    status.add_argument("id", metavar="ID", nargs="?", type=map_arguments.name)
    for command in (start, pause, resume, abort, verify):
        command.add_argument("id", metavar="ID", type=map_arguments.name)
    for command in (start, resume, abort):
        command.add_argument(
            "--wait", action="store_true", help="until it has ended; leaves with 3 if not well"
        )
    for command in (plan, start, pause, resume, abort):
        changing.add_arguments(command, dangerous=command in (start, abort))
    for command in (plan, start, status, pause, resume, abort, verify):
        remote.add_arguments(command)
        credentials.add_arguments(command)
        add_output(command)


def _add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    for flag, where, what in (("from", "source", "has"), ("to", "target", "is to have")):
        text = f"the Set that {what} the sections"
        parser.add_argument(
            f"--{flag}",
            dest=where,
            metavar="SET",
            type=map_arguments.name,
            required=True,
            help=text,
        )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--sections",
        dest="which",
        metavar="FIRST-LAST[,...]",
        type=map_arguments.sections,
        help="these",
    )
    which.add_argument(
        "--half", dest="which", action="store_const", const=HALF, help="the upper half of its own"
    )
    which.add_argument("--all", dest="which", action="store_const", const=ALL, help="all it has")
    parser.add_argument(
        "--chunk",
        metavar="N",
        type=map_arguments.chunk,
        default=CHUNK,
        help=f"sections that are stopped and moved at a time, at most (default {CHUNK})",
    )
    parser.add_argument(
        "--name",
        metavar="ID",
        type=map_arguments.name,
        help="of the job (default: move-1, move-2, ...)",
    )


def run_plan(args: argparse.Namespace) -> int:
    """0 if the job is in the map, and not started."""
    return remote.run(args, lambda coordinator: _plan(args, coordinator))


def run_start(args: argparse.Namespace) -> int:
    """0 if the job runs; with --wait: if it is done."""
    return remote.run(args, lambda coordinator: _start(args, coordinator))


def run_status(args: argparse.Namespace) -> int:
    """0, whatever state they are in."""
    return remote.run(args, lambda coordinator: _status(args, coordinator))


def run_pause(args: argparse.Namespace) -> int:
    """0 if the job is to rest."""

    async def pause(coordinator: Coordinator) -> int:
        job = await _changed(args, coordinator, lambda found: paused(found, args.id))
        return _tell(args, job)

    return remote.run(args, pause)


def run_resume(args: argparse.Namespace) -> int:
    """0 if the job goes on; with --wait: if it is done."""

    async def resume(coordinator: Coordinator) -> int:
        job = await _changed(args, coordinator, lambda found: resumed(found, args.id))
        return await _end(args, coordinator, job, State.DONE)

    return remote.run(args, resume)


def run_abort(args: argparse.Namespace) -> int:
    """0 if the job is to end; with --wait: if it has."""

    async def abort(coordinator: Coordinator) -> int:
        def decide(found: View) -> tuple[Job, Change]:
            return aborted(found, args.id, undo=args.undo)

        back = "and move back what is moved" if args.undo else "and leave what is moved where it is"
        job = await _changed(args, coordinator, decide, f"Abort {args.id}, {back}?")
        return await _end(args, coordinator, job, State.ABORTED)

    return remote.run(args, abort)


async def _plan(args: argparse.Namespace, coordinator: Coordinator) -> int:
    asked = Asked(args.source, args.target, args.which, args.chunk, args.name or "")
    incarnation, now_s = secrets.randbits(64) or 1, int(time.time())

    def decide(found: View) -> tuple[Planned, Change]:
        return planned(found, asked, by=actor(), created_s=now_s, incarnation=incarnation)

    found = await looked(coordinator)
    made, _ = decide(found)
    if not args.dry_run:
        what = f"sections {shown(made.move.ranges)} from {asked.source} to {asked.target}"
        async with audited(f"move plan {made.job.id}: {what}", coordinator):
            made = await written(coordinator, decide)
    missing = await _unanswered(args, [found.spec(asked.source), found.spec(asked.target)])
    _show_plan(args, made, [*made.warnings, *missing])
    return OK


async def _start(args: argparse.Namespace, coordinator: Coordinator) -> int:
    def decide(found: View) -> tuple[Job, Change]:
        return started(found, args.id)

    found = await looked(coordinator)
    job, _ = decide(found)
    missing = await _unanswered(args, [found.spec(name) for name in sorted(job.sets)])
    if missing:
        raise NotDone(f"not started: {'; '.join(missing)}")
    _, move = found_move(found, args.id)
    what = f"{move.sections} sections from {move.source} to {move.target}"
    job = await _changed(args, coordinator, decide, f"Start {args.id}: move {what}?")
    return await _end(args, coordinator, job, State.DONE)


async def _status(args: argparse.Namespace, coordinator: Coordinator) -> int:
    found = await looked(coordinator)
    jobs = sorted((job for job in found.jobs.values() if job.move), key=lambda job: job.created_s)
    if args.id is not None:
        jobs = [found_move(found, args.id)[0]]
    if args.output == "json":
        said = [job_as_json(job) for job in jobs]
        print_json(said if args.id is None else said[0])
    else:
        print_jobs(jobs)
    return OK


async def _changed(
    args: argparse.Namespace, coordinator: Coordinator, decide: Decide, question: str = ""
) -> Job:
    """The job as it is, or with --dry-run would be, written."""
    job, _ = decide(await looked(coordinator))
    if args.dry_run:
        return job
    if question:
        confirm(args, question)
    async with audited(f"move {job.id}: {job.state.value}", coordinator):
        return await written(coordinator, decide)


async def _end(args: argparse.Namespace, coordinator: Coordinator, job: Job, good: State) -> int:
    """Wait for the job if that was asked for. Raises NotDone where it ends in another state."""
    if args.dry_run or not args.wait:
        return _tell(args, job)
    job = await followed(coordinator, job, job.move.sections if job.move else 0)
    _tell(args, job)
    if job.state is not good:
        raise NotDone(f"job {job.id} is {job.state.value}: {job.note}")
    return OK


async def _unanswered(args: argparse.Namespace, specs: list[SetSpec]) -> list[str]:
    addresses = {replica.address for spec in specs for replica in spec.replicas}
    infos = await ask_stores(addresses, args.timeout, credentials_of(args))
    return [text for spec in specs for text in unanswered(spec, infos)]


def _tell(args: argparse.Namespace, job: Job) -> int:
    if args.output == "json":
        print_json({"written": not args.dry_run, **job_as_json(job)})
    else:
        if args.dry_run:
            say("would be as follows, nothing was written:")
        print_jobs([job])
    return OK


def _show_plan(args: argparse.Namespace, made: Planned, warnings: list[str]) -> None:
    if args.output == "json":
        more = {"chunks": made.chunks, "estimated_s": made.estimated_s, "warnings": warnings}
        print_json({"written": not args.dry_run, **job_as_json(made.job), **more})
        return
    _tell(args, made.job)
    move = made.move
    say(
        f"{move.sections} sections in {made.chunks} chunks or more, of {move.chunk} at most,"
        f" about {made.estimated_s:g} s"
    )
    for warning in warnings:
        say(f"warning: {warning}")
    if not args.dry_run:
        say(f"start it: seqctl move start {made.job.id}")
