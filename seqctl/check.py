"""`seqctl check`: are the promises kept in recorded histories?"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict

from seqcheck.history import Report, check
from seqctl.failures import OK, VIOLATION, WrongUsage
from seqctl.history import HistoryReader
from seqctl.output import print_json, print_violations, say, violation_as_json

_SHOWN = 20


def run(args: argparse.Namespace) -> int:
    """The command: 0 and a summary, or 1 and the calls that contradict each other."""
    _refuse_twice(args.files)
    history = HistoryReader(args.files)
    report = check(history, complete=args.complete)
    if args.output == "json":
        figures = {"files": len(args.files), "torn": history.torn, **asdict(report.statistics)}
        violations = [violation_as_json(violation) for violation in report.violations]
        print_json({**figures, "violations": violations})
    else:
        print_violations(report.violations[:_SHOWN], len(report.violations), sys.stdout)
        say(_summary(report, len(args.files), history.torn))
    return VIOLATION if report.violations else OK


def _refuse_twice(files: Sequence[str]) -> None:
    """A file that is read twice repeats every number in it. Raises WrongUsage."""
    seen: dict[str, str] = {}
    for file in files:
        place = os.path.realpath(file)
        if place in seen:
            raise WrongUsage(f"{seen[place]} and {file} are the same file")
        seen[place] = file


def _summary(report: Report, files: int, torn: int) -> str:
    figures = report.statistics
    verdict = f"{len(report.violations)} violations" if report.violations else "ok"
    return (
        f"{verdict}: {figures.calls} calls in {files} file{'s' * (files != 1)},"
        f" {figures.numbers} numbers of {figures.uids} uids, {figures.gaps} gaps,"
        f" {figures.failed} failed calls, {torn} torn last lines"
    )
