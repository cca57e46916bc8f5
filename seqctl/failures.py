"""How a command ends other than well: one line on standard error and an exit code."""

from svrprocess.failures import INTERRUPTED, NOT_DONE, OK, WRONG_USAGE, NotDone, WrongUsage
from svrprocess.failures import Failed as CommandFailed

__all__ = [
    "BROKEN_PIPE",
    "INTERRUPTED",
    "NOT_DONE",
    "OK",
    "VIOLATION",
    "WRONG_USAGE",
    "CommandFailed",
    "NotDone",
    "WrongUsage",
]

VIOLATION = 1
BROKEN_PIPE = 141
