"""`seqctl import`: raises uids to the floors of a file, for those who come from another service.

The file is read as it goes, in batches. A batch is looked up first, which allocates nothing and
touches no storage; only uids that stand below their floor are advanced. So a run that was cut off
is simply run again, and a dry run sees what a real one would. Batches follow one another, at most
`rate` lines a second, so that callers of the service hardly notice.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Iterable, Iterator

import seqsvr
from seqctl import advancing, arguments
from seqctl.changing import audited
from seqctl.credentials import client_of
from seqctl.failures import OK, VIOLATION, NotDone
from seqctl.floors import Floor, Summary, parse_floor
from seqctl.lines import Lines
from seqctl.output import print_json, print_table, say
from seqctl.progress import progress
from seqsvr.errors import InvalidArgument, SeqError
from seqsvr.sections import Layout

EXAMPLE = "seqctl import floors.csv.gz --dry-run"
BATCH = 1_000
RATE = 20_000
_SHOWN_BYTES = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Of `seqctl import`."""
    parser.add_argument(
        "file",
        metavar="FILE",
        help="uid,floor in each line, a heading or none; .gz is unpacked, - is standard input",
    )
    parser.add_argument(
        "--rate",
        metavar="LINES",
        type=arguments.positive,
        default=RATE,
        help=f"lines a second at most, so that callers do not notice (default {RATE})",
    )
    advancing.add_arguments(parser, timeout_s=30.0)


def run(args: argparse.Namespace) -> int:
    """The command: 0, or 1 if lines were refused, which stand on standard error."""
    summary = asyncio.run(_import(args))
    if args.output == "json":
        print_json(summary.as_json(dry_run=args.dry_run))
    else:
        print_table(("", "import"), summary.rows(dry_run=args.dry_run))
    return VIOLATION if summary.refused else OK


async def _import(args: argparse.Namespace) -> Summary:
    async with client_of(args, timeout=args.timeout) as client:
        layout = (await client.route()).layout
        with Lines(args.file) as lines:
            importing = Import(client, layout, lines, args.max_jump, args.rate, args.dry_run)
            async with progress("bytes", lines.size, lambda: lines.read):
                if args.dry_run:
                    await importing.run()
                else:
                    await _really(args, importing)
    return importing.summary


async def _really(args: argparse.Namespace, importing: "Import") -> None:
    what = f"import {args.file} --max-jump {args.max_jump}"
    async with advancing.audit_map(args) as coordinator, audited(what, coordinator) as outcome:
        await importing.run()
        done = importing.summary
        outcome.text = f"{done.advanced} advanced, {done.already} already, {done.refused} refused"


class Import:
    """One run over one file: `await run()`, then `summary`."""

    def __init__(
        self,
        client: seqsvr.AsyncClient,
        layout: Layout,
        lines: Lines,
        max_jump: int,
        rate: int,
        dry_run: bool,
    ) -> None:
        self.summary = Summary(layout.section_size)
        self._client = client
        self._uid_limit = layout.uid_limit
        self._lines = lines
        self._max_jump = max_jump
        self._rate = rate
        self._dry_run = dry_run
        self._text: dict[int, bytes] = {}  # of the batch, by line

    async def run(self) -> None:
        """Raises NotDone where the cluster does not do it, WrongUsage where the file ends badly."""
        started_s = time.monotonic()
        asked = 0
        for batch in self._batches():
            try:
                await self._one(batch)
            except InvalidArgument:
                raise
            except SeqError as error:
                text = f"stopped at line {batch[0].line}, with {self.summary.advanced} advanced"
                raise NotDone(
                    f"{text}: {error}. Run it again, that changes nothing twice"
                ) from error
            asked += len(batch)
            await asyncio.sleep(started_s + asked / self._rate - time.monotonic())

    def _batches(self) -> Iterator[list[Floor]]:
        """Sound lines; a uid is but once in a batch, so that lines count one after the other."""
        batch: dict[int, Floor] = {}
        for number, line in self._lines:
            try:
                floor = parse_floor(number, line, self._uid_limit)
            except ValueError as error:
                self._refuse(number, line, str(error))
                continue
            if floor is None:
                continue
            if floor.uid in batch or len(batch) >= min(BATCH, self._rate):
                yield list(batch.values())
                batch.clear()
                self._text.clear()
            batch[floor.uid] = floor
            self._text[number] = line
        if batch:
            yield list(batch.values())

    async def _one(self, batch: list[Floor]) -> None:
        standing = await self._client.current_many(floor.uid for floor in batch)
        rising: dict[int, tuple[Floor, int]] = {}
        for floor, stands in zip(batch, standing, strict=True):
            by = floor.floor - stands.value
            if by <= 0:
                self.summary.stood()
            elif by > self._max_jump:
                text = f"{by} above {stands.value}, where the uid stands: more than --max-jump"
                self._refuse(floor.line, self._text[floor.line], text)
            else:
                rising[floor.uid] = floor, by
        await self._advance(rising)
        for floor, by in rising.values():
            self.summary.rose(floor, by)

    async def _advance(self, rising: dict[int, tuple[Floor, int]]) -> None:
        """All of them but those that the cluster refuses, which are taken out."""
        while rising and not self._dry_run:
            pairs: Iterable[tuple[int, int]] = [(f.uid, f.floor) for f, _ in rising.values()]
            try:
                await self._client.advance_many(pairs, max_jump=self._max_jump)
                return
            except InvalidArgument as error:
                if error.uid not in rising:
                    raise
                floor, _ = rising.pop(error.uid)
                self._refuse(floor.line, self._text[floor.line], str(error))

    def _refuse(self, number: int, line: bytes, why: str) -> None:
        self.summary.refuse()
        shown = line[:_SHOWN_BYTES].decode(errors="backslashreplace").strip()
        say(f"{self._lines.path}:{number}: {why}: {shown!r}", file=sys.stderr)
