"""How commands look to argparse: their help with an example, their exit codes, and -o."""

import argparse
import os
import textwrap
from collections.abc import Callable

from seqctl import arguments, credentials

EXIT_CODES = (
    "exit codes: 0 done, 1 a violation or a failed check, 2 wrong usage,"
    " 3 the cluster could not be reached or did not do it"
)
_WIDTH = 78

Run = Callable[[argparse.Namespace], int]


class Group:
    """The commands below `parser`."""

    def __init__(self, parser: argparse.ArgumentParser, metavar: str = "SUBCOMMAND") -> None:
        self._commands = parser.add_subparsers(metavar=metavar, required=True)

    def add(
        self, name: str, text: str, run: Run | None = None, *, example: str = "", more: str = ""
    ) -> argparse.ArgumentParser:
        """One command. text: its help; more: in its own help, below that; example: a whole line."""
        command = self._commands.add_parser(
            name,
            help=text,
            description=filled(f"{text[:1].upper()}{text[1:]}. {more}"),
            epilog=(f"example: {example}\n\n" if example else "") + filled(EXIT_CODES),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if run is not None:
            command.set_defaults(run=run)
        return command


def add_output(command: argparse.ArgumentParser) -> None:
    """-o table|json."""
    command.add_argument(
        "-o",
        "--output",
        choices=("table", "json"),
        default="table",
        help="json: one JSON value and nothing else on standard output",
    )


def add_client_options(command: argparse.ArgumentParser, timeout_s: float = 2.0) -> None:
    """--addr, --timeout, credentials and -o of commands that call nodes as message services do."""
    command.add_argument(
        "--addr",
        metavar="HOST:PORT[,...]",
        type=arguments.addresses,
        default=os.environ.get("SEQSVR_ADDR") or arguments.DEFAULT_ADDRESS,
        help=f"any nodes of the cluster (SEQSVR_ADDR, default {arguments.DEFAULT_ADDRESS})",
    )
    command.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=arguments.seconds,
        default=timeout_s,
        help=f"bound of each call, retries included (default {timeout_s:g})",
    )
    credentials.add_arguments(command)
    add_output(command)


def filled(text: str) -> str:
    """As argparse would fill it, which leaves text alone where examples are to stay as they are."""
    return textwrap.fill(" ".join(text.split()), _WIDTH)
