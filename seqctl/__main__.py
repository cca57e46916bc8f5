"""`seqctl`: the command line of operators; `python -m seqctl` is the same.

This module knows the commands, their options and how a command ends. Each command is a function
of the parsed arguments that returns an exit code; what it needs is imported only when it runs.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from typing import NoReturn

from seqctl import arguments
from seqctl.failures import (
    BROKEN_PIPE,
    INTERRUPTED,
    NOT_DONE,
    OK,
    WRONG_USAGE,
    CommandFailed,
)
from seqctl.groups import EXIT_CODES, Group, Run, add_client_options, add_output
from seqctl.output import say
from seqsvr.escaping import escaped

# What the bare install, the client, does without.
_SERVER_EXTRA = frozenset(
    {
        "cryptography",
        "etcd3",
        "google_crc32c",
        "grpc_health",
        "grpc_reflection",
        "lmdb",
        "prometheus_client",
        "rich",
    }
)
_ONE_MACHINE = (
    "Checks order (SEQ-1), uniqueness (SEQ-2), current (SEQ-4) and epochs (ROUTE-1) of the"
    " histories that clients write with history=PATH. Several files are checked as one history."
    " Their times are CLOCK_MONOTONIC: they compare only if all files were written on one machine"
    " since it was booted."
)
_REPLAY = (
    "Replays a message trace (sender recipient unix_time per line; .gz is unpacked). Each message"
    " takes the next number of its recipient and of its sender; every number is verified. Jumps"
    " are holes between consecutive numbers of a uid, counted from where it stood before."
)

_OTHERS = {
    "cluster": ("write a new cluster's map into etcd, or show a cluster", "seqctl.cluster"),
    "advance": ("raise a uid's numbers above a floor", "seqctl.advance"),
    "import": ("raise many uids' numbers above the floors of a file", "seqctl.importing"),
    "health": ("ask one server whether it is alive, or ready", "seqctl.health"),
    "set": ("make, show and retire Sets, which share the sections of a cluster", "seqctl.sets"),
    "move": ("move sections from one Set to another, while they are served", "seqctl.moves"),
    "node": ("show, drain and remove nodes", "seqctl.nodes"),
    "section": ("show the busiest sections, and pin sections to nodes", "seqctl.sections"),
    "rebalance": ("even out the loads of nodes", "seqctl.rebalance"),
    "top": ("watch nodes, sections, replicas and jobs", "seqctl.top"),
    "certs": ("make the certificates of a test cluster, and show any", "seqctl.certs"),
    "auth": ("make tokens, and check the file of identities", "seqctl.auth"),
    "audit": ("show who changed what in a cluster", "seqctl.audit"),
    "store": ("show, change and look after the replicas of Sets", "seqctl.stores"),
    "backup": ("write the records of Sets to a file, while they serve", "seqctl.backup"),
    "restore": ("write a backup onto blank replicas of a Set", "seqctl.restore"),
    "verify": ("compare all replicas of Sets, and a backup with them", "seqctl.verify"),
}
"""Command -> its help, and the module that has `add_arguments(parser)`, `run(args)`, EXAMPLE and
perhaps MORE help. A group has only the first: it makes a `groups.Group` of the parser and adds its
commands to that."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. Argparse leaves by SystemExit (0 help, 2 wrong usage)."""
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        args = _parser(given).parse_args(given)
        run: Run = args.run
        code = run(args)
        sys.stdout.flush()
        return code
    except CommandFailed as error:
        return _fail(given, str(error), error.code)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read us has left; nor shall the interpreter's last flush complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _SERVER_EXTRA:
            return _bug(given, error)
        text = f"{error.name} is not installed: pip install 'seqsvr[server]'"
        return _fail(given, text, WRONG_USAGE)
    except Exception as error:  # noqa: BLE001 - the last line of defence: no traceback for operators
        return _fail_of_client(given, error)


def _fail_of_client(given: list[str], error: Exception) -> int:
    """What the client raises, what the system refuses, and what nobody expected."""
    from seqsvr.errors import InvalidArgument, SeqError

    leaf: BaseException = error
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    if isinstance(leaf, InvalidArgument):
        return _fail(given, str(leaf), WRONG_USAGE)
    if isinstance(leaf, OSError) and leaf.filename is not None:
        return _fail(given, f"{leaf.filename}: {leaf.strerror}", WRONG_USAGE)
    if isinstance(leaf, SeqError | OSError):
        return _fail(given, str(leaf), NOT_DONE)
    return _bug(given, leaf)


def _bug(given: list[str], error: BaseException) -> int:
    """SEQSVR_TRACEBACK=1 shows where it came from."""
    if os.environ.get("SEQSVR_TRACEBACK") == "1":
        raise error
    text = f"a bug ({type(error).__name__}: {error}); SEQSVR_TRACEBACK=1 says where"
    return _fail(given, text, NOT_DONE)


def _fail(given: list[str], text: str, code: int) -> int:
    command = f" {given[0]}" if given else ""
    say(f"seqctl{command}: {' '.join(text.split())}", file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(WRONG_USAGE, escaped(f"{self.prog}: {message} (see {self.prog} --help)") + "\n")


def _parser(given: list[str]) -> argparse.ArgumentParser:
    description = "Operates seqsvr, the sequence-number service."
    parser = _Parser(prog="seqctl", description=description, epilog=EXIT_CODES, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=version("seqsvr"))
    commands = Group(parser, "COMMAND")
    _add_up(commands, given)
    _add_calls(commands)
    _add_replay(commands)
    _add_check(commands)
    _add_others(commands, given)
    commands.add("version", "print the version", _run_version, example="seqctl version")
    return parser


def _later(module: str, function: str) -> Run:
    """A command that is imported when it runs: one does not need what another does."""

    def run(args: argparse.Namespace) -> int:
        code: int = getattr(import_module(module), function)(args)
        return code

    return run


def _add_up(commands: Group, given: list[str]) -> None:
    up = commands.add(
        "up",
        "run the embedded service: StoreSvr, AllocSvr and map",
        _later("seqctl.up", "run"),
        example="seqctl up --data ./data --listen 127.0.0.1:7420",
    )
    if given[:1] == ["up"]:  # its options are asked for only here: they import the server
        import_module("seqctl.up").add_arguments(up)


def _add_calls(commands: Group) -> None:
    command = commands.add(
        "next",
        "take the next number of a uid",
        _later("seqctl.oneshot", "run_next"),
        example="seqctl next 4711 --count 10",
    )
    command.add_argument("uid", metavar="UID", type=arguments.uid)
    command.add_argument(
        "--count", metavar="N", type=arguments.count, default=1, help="how many (default 1)"
    )
    add_client_options(command)

    command = commands.add(
        "current",
        "show the last number of each uid",
        _later("seqctl.oneshot", "run_current"),
        example="seqctl current 4711 4712 -o json",
    )
    command.add_argument("uids", metavar="UID", type=arguments.uid, nargs="+")
    add_client_options(command)

    command = commands.add(
        "route",
        "show the routing table",
        _later("seqctl.oneshot", "run_route"),
        example="seqctl route --addr 10.0.0.1:7420,10.0.0.2:7420",
    )
    add_client_options(command)

    command = commands.add(
        "status",
        "ask every node whether it is ready",
        _later("seqctl.status", "run"),
        example="seqctl status --addr 10.0.0.1:7420",
    )
    add_client_options(command)


def _add_replay(commands: Group) -> None:
    command = commands.add(
        "replay",
        "replay a message trace",
        _later("seqctl.replay", "run"),
        more=_REPLAY,
        example="seqctl replay messages.txt.gz --spread 100003 --clients 64",
    )
    command.add_argument("file", metavar="FILE")
    command.add_argument(
        "--spread",
        metavar="K",
        type=arguments.positive,
        default=1,
        help="multiply uids by K, to spread them over sections (default 1)",
    )
    command.add_argument(
        "--clients",
        metavar="C",
        type=arguments.clients,
        default=64,
        help="calls in flight (default 64)",
    )
    command.add_argument(
        "--limit", metavar="N", type=arguments.positive, help="the first N messages only"
    )
    command.add_argument("--history", metavar="PATH", help="record every call for seqctl check")
    add_client_options(command, timeout_s=10.0)


def _add_check(commands: Group) -> None:
    command = commands.add(
        "check",
        "check recorded histories",
        _later("seqctl.check", "run"),
        more=_ONE_MACHINE,
        example="seqctl check history-1.jsonl history-2.jsonl.gz",
    )
    command.add_argument("files", metavar="HISTORY", nargs="+", help="JSON lines; .gz is unpacked")
    command.add_argument(
        "--complete",
        action="store_true",
        help="the files hold every call that anybody ever made on their uids: check more",
    )
    add_output(command)


def _add_others(commands: Group, given: list[str]) -> None:
    """Commands and groups of them whose modules add their own options, once they are asked for."""
    for name, (text, module) in _OTHERS.items():
        asked = import_module(module) if given[:1] == [name] else None
        example, more = getattr(asked, "EXAMPLE", ""), getattr(asked, "MORE", "")
        command = commands.add(name, text, _later(module, "run"), example=example, more=more)
        if asked is not None:
            asked.add_arguments(command)


def _run_version(args: argparse.Namespace) -> int:
    del args
    say(version("seqsvr"))
    return OK


if __name__ == "__main__":
    sys.exit(main())
