"""How a program ends other than well: one line on standard error and an exit code."""

from seqsvr.escaping import escaped

OK = 0
WRONG_USAGE = 2
NOT_DONE = 3
FATAL = 70
INTERRUPTED = 130
SIGNALLED = 128
"""Plus the number of the signal: what ended a process at once."""


class Failed(Exception):
    """Ends the program with `code`; the text is for the operator, without a newline."""

    code = NOT_DONE


class WrongUsage(Failed):
    """Arguments or input files are wrong: the same command can never succeed."""

    code = WRONG_USAGE


class NotDone(Failed):
    """What was asked for could not be had, reached, started or done."""


def leaves(error: BaseException) -> list[BaseException]:
    """What was raised, out of the groups that it is wrapped in; `error` itself where it is none."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for inner in error.exceptions for leaf in leaves(inner)]


def one_line(text: str) -> str:
    """The same without line breaks and control characters, for a terminal and for a log."""
    return escaped(" ".join(text.split()))
