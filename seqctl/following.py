"""Jobs of a cluster as commands show them, and waiting for their end."""

import sys
import time
from collections.abc import Iterable
from contextlib import aclosing
from typing import Any

from clustermap.coordinator import Coordinator, follow
from clustermap.jobs import ACTIVE, Job, job_key
from clustermap.ranges import shown
from seqctl.output import print_table, say
from seqctl.progress import progress

_COLUMNS = ("job", "state", "from", "to", "sections", "moved", "by", "created", "note")


async def followed(coordinator: Coordinator, job: Job, total: int) -> Job:
    """The job once the arbiter works on it no more; shows how far it is of `total` meanwhile."""
    key, last, told = job_key(job.id), job, ""

    def done() -> int:
        if last.reform is not None:
            return last.reform.copied
        return last.move.moved if last.move else 0

    async with (
        progress("sections copied" if job.reform else "sections moved", total, done),
        aclosing(follow(coordinator, key)) as pictures,
    ):
        async for picture in pictures:
            if key not in picture:
                return last
            last = Job.from_json(picture[key].value)
            if last.note != told and not sys.stderr.isatty():
                told = last.note
                say(f"{last.id}: {told}", file=sys.stderr)
            if last.state not in ACTIVE:
                return last
    return last


def job_as_json(job: Job) -> dict[str, object]:
    """A job as scripts read it."""
    move, reform = job.move, job.reform
    return {
        "id": job.id,
        "state": job.state.value,
        "by": job.by,
        "created": _date(job.created_s),
        "note": job.note,
        **(
            {
                "from": move.source,
                "to": move.target,
                "ranges": [span.fields() for span in move.ranges],
                "sections": move.sections,
                "chunk": move.chunk,
                "moved": move.moved,
                "undo": move.undo,
            }
            if move
            else {}
        ),
        **(
            {
                "set": reform.set,
                "replicas": [one.fields() for one in reform.replicas],
                "r": reform.r,
                "w": reform.w,
                "copied": reform.copied,
            }
            if reform
            else {}
        ),
    }


def print_jobs(jobs: Iterable[Job]) -> None:
    """As a table."""
    print_table(_COLUMNS, [_row(job) for job in jobs])


def _row(job: Job) -> list[str]:
    shown_job: dict[str, Any] = job_as_json(job)
    move = job.move
    ranges = shown(move.ranges) if move else ""
    moved = f"{move.moved} of {move.sections}" if move else ""
    return [
        *(job.id, job.state.value, move.source if move else "", move.target if move else ""),
        *(ranges, moved, job.by, shown_job["created"], job.note),
    ]


def _date(seconds: int) -> str:
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return str(seconds)
