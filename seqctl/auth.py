"""`seqctl auth`: tokens, and the file that says whose they are and what they are good for."""

import argparse
import os
import secrets
from pathlib import Path

from seqctl.failures import OK, VIOLATION, NotDone, WrongUsage
from seqctl.groups import Group, add_output
from seqctl.output import print_json, print_table, say
from svrprocess import auth_file, rights
from svrprocess.identities import Identity, digest
from svrprocess.roles import Role

TOKEN_BYTES = 32
_TOKEN = (
    "Prints a fresh random token, this once and nowhere else, and the [[identity]] entry for the"
    " servers' --auth-file, which holds no more than its SHA-256. With --token-file the token goes"
    " into a file, as clients and seqctl take it, and what is printed is the entry alone. To"
    " replace a token, let token_sha256 be a list of the old one and the new one for a while."
)
_CHECK = (
    "As a server reads it, mode and owner included; a server that runs keeps its last good one."
    " Leaves with 1 if it cannot be used."
)
_COLUMNS = ("name", "roles", "uids", "known by", "numbers/s", "requests/s")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The commands of `seqctl auth`."""
    group = Group(parser)
    token = group.add(
        "token",
        "make a token and its entry for the auth file",
        run_token,
        example="seqctl auth token orders --role allocator --uids 0-999999",
        more=_TOKEN,
    )
    token.add_argument("name", metavar="NAME", help="of the identity, in logs, metrics and limits")
    token.add_argument(
        "--role",
        dest="roles",
        action="append",
        required=True,
        choices=list(map(str, Role)),
        help="what it may do, repeatable",
    )
    token.add_argument(
        "--uids",
        metavar="FIRST-LAST",
        action="append",
        default=[],
        help="uids that it may ask for, repeatable (default: all)",
    )
    token.add_argument(
        "--token-file", metavar="FILE", type=Path, help="write the token there, mode 0600"
    )
    check = group.add(
        "check",
        "say whether servers would take an auth file, and show who is in it",
        run_check,
        example="seqctl auth check /etc/seqsvr/auth.toml",
        more=_CHECK,
    )
    check.add_argument("file", metavar="FILE", help="the auth file")
    for command in (token, check):
        add_output(command)


def run_token(args: argparse.Namespace) -> int:
    """Make it: 0."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    entry = auth_file.entry(args.name, digest(token), args.roles, args.uids)
    try:
        auth_file.parse(entry.encode())
    except ValueError as error:
        raise WrongUsage(str(error)) from None
    if args.token_file is not None:
        _write(args.token_file, token)
    if args.output == "json":
        shown = {} if args.token_file is not None else {"token": token}
        print_json({"name": args.name, **shown, "entry": entry})
        return OK
    if args.token_file is None:
        say(f"# the token, which is shown only now: {token}")
    for line in entry.splitlines():
        say(line)
    return OK


def run_check(args: argparse.Namespace) -> int:
    """Read it: 0, or 1."""
    try:
        known = rights.read(args.file).known
    except WrongUsage as error:
        if args.output == "json":
            print_json({"sound": False, "problem": str(error)})
        else:
            say(error)
        return VIOLATION
    if args.output == "json":
        print_json({"sound": True, "identities": [_as_json(one) for one in known]})
    else:
        print_table(_COLUMNS, [_row(one) for one in known])
    return OK


def _write(file: Path, token: str) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w") as opened:
            opened.write(f"{token}\n")
    except OSError as error:
        raise NotDone(f"cannot write {file}: {error.strerror}") from None


def _as_json(one: Identity) -> dict[str, object]:
    caller = one.caller
    return {
        "name": caller.name,
        "roles": sorted(caller.roles),
        "uids": [f"{first}-{last}" for first, last in caller.uids],
        "tokens": len(one.tokens),
        "sans": list(one.sans),
        "numbers_per_s": caller.numbers_per_s,
        "requests_per_s": caller.requests_per_s,
    }


def _row(one: Identity) -> list[object]:
    shown = _as_json(one)
    tokens = [f"{len(one.tokens)} tokens" if len(one.tokens) > 1 else "a token"]
    return [
        shown["name"],
        ", ".join(sorted(one.caller.roles)),
        ", ".join(f"{first}-{last}" for first, last in one.caller.uids) or "all",
        ", ".join([*(tokens if one.tokens else []), *one.sans]),
        *(rate or "" for rate in (one.caller.numbers_per_s, one.caller.requests_per_s)),
    ]
