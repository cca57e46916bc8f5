"""`seqctl certs`: certificates of a test cluster, made and renewed, and any certificate shown."""

import argparse
import math
from datetime import UTC, datetime
from pathlib import Path

from seqctl import certs_folder
from seqctl.certs_issuing import LOOPBACK, host_name
from seqctl.certs_shown import Shown, shown
from seqctl.failures import OK, VIOLATION, WrongUsage
from seqctl.groups import Group, add_output
from seqctl.output import print_json, print_table, say

_INIT = (
    "Writes ca.crt and ca.key, and with them server, peer, reader, allocator, operator and etcd"
    " (each NAME.crt and NAME.key). Run again, it keeps the authority and renews the others:"
    " servers and clients read them anew while they run. Keep ca.key away from servers: whoever"
    " has it can be anybody."
)
_SHOW = (
    "A file may hold several certificates; a folder stands for its .crt files. FILE.crt is compared"
    " with FILE.key where there is one. Leaves with 1 if one has expired, does not hold yet or does"
    " not fit its key."
)
_MOST_DAYS = 36_500
_COLUMNS = ("file", "subject", "for", "roles", "not after", "days left", "problem")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The commands of `seqctl certs`."""
    group = Group(parser)
    init = group.add(
        "init",
        "make the certificates of a test cluster, or renew them",
        run_init,
        example="seqctl certs init ./certs --host alloc-1.example --host 10.0.1.1",
        more=_INIT,
    )
    init.add_argument("folder", metavar="DIR", type=Path, help="made if missing, mode 0700")
    init.add_argument(
        "--host",
        dest="hosts",
        metavar="HOST",
        type=_host,
        action="append",
        default=[],
        help="a name or address by which servers are called, repeatable (default: those of the"
        f" last time; always: {', '.join(LOOPBACK)})",
    )
    init.add_argument(
        "--days",
        metavar="N",
        type=_days,
        default=certs_folder.DAYS,
        help=f"how long they last, the authority excepted (default {certs_folder.DAYS})",
    )
    init.add_argument(
        "--new-ca",
        action="store_true",
        help="make another authority, too; ca.crt goes on naming the last one beside it",
    )
    show = group.add(
        "show",
        "show what certificates say, and until when",
        run_show,
        example="seqctl certs show ./certs/server.crt ./certs/peer.crt -o json",
        more=_SHOW,
    )
    show.add_argument("files", metavar="FILE", nargs="+", type=Path)
    for command in (init, show):
        add_output(command)


def run_init(args: argparse.Namespace) -> int:
    """Make or renew: 0."""
    made = certs_folder.init(args.folder, args.hosts, args.days, new_ca=args.new_ca)
    if args.output == "json":
        ends = {name: cert.not_valid_after_utc.isoformat() for name, cert in made.items()}
        print_json({"folder": str(args.folder), "not_after": ends})
        return OK
    authority = made.pop(certs_folder.AUTHORITY)
    [first, *_] = made.values()
    say(f"written to {args.folder}: {', '.join(made)}, until {first.not_valid_after_utc:%F}")
    say(f"the authority lasts until {authority.not_valid_after_utc:%F}; keep ca.key away")
    return OK


def run_show(args: argparse.Namespace) -> int:
    """Show all of them: 0, or 1 if something is wrong with any."""
    now = datetime.now(UTC)
    found = [one for path in args.files for file in _files(path) for one in shown(file, now)]
    if args.output == "json":
        print_json([one.as_json() for one in found])
    else:
        print_table(_COLUMNS, map(_row, found))
    return VIOLATION if any(one.problem for one in found) else OK


def _row(one: Shown) -> tuple[object, ...]:
    names, roles = " ".join(one.names), " ".join(one.roles)
    return one.file, one.subject, names, roles, f"{one.not_after:%F %T}", one.days_left, one.problem


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(path.glob("*.crt"))
    if not found:
        raise WrongUsage(f"{path} holds no .crt files")
    return found


def _host(text: str) -> str:
    try:
        host_name(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _days(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= _MOST_DAYS:
        raise argparse.ArgumentTypeError(f"must be a number of days up to {_MOST_DAYS}")
    return value
