"""How a command ends other than well: one line on standard error and an exit code."""

OK = 0
VIOLATION = 1
WRONG_USAGE = 2
NOT_DONE = 3
INTERRUPTED = 130
BROKEN_PIPE = 141


class CommandFailed(Exception):
    """Ends the command with `code`; the text is for the operator, without a newline."""

    code = NOT_DONE


class WrongUsage(CommandFailed):
    """Arguments or input files are wrong: the same command can never succeed."""

    code = WRONG_USAGE


class NotDone(CommandFailed):
    """The cluster could not be reached, or did not do it."""
