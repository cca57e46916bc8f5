"""How commands show servers who they are, and know whom they talk to: options and environment."""

import argparse
import os
from typing import Any

import seqsvr
from seqctl.failures import WrongUsage
from seqsvr.credentials import Credentials
from svrprocess.secret_files import check_secret

_FILES = {
    "ca": ("FILE", "authorities that servers are trusted by, PEM; gives TLS"),
    "cert": ("FILE", "certificate to show to servers, PEM"),
    "key": ("FILE", "its key, which nobody else may read"),
    "server-name": ("NAME", "what servers' certificates are made out to, if not their addresses"),
    "token-file": ("FILE", "bearer token to show to servers, which nobody else may read"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """--ca, --cert, --key, --server-name and --token-file."""
    for name, (metavar, text) in _FILES.items():
        variable = f"SEQSVR_{name.upper().replace('-', '_')}"
        parser.add_argument(
            f"--{name}",
            metavar=metavar,
            default=os.environ.get(variable) or None,
            help=f"{text} ({variable})",
        )


def credentials_of(args: argparse.Namespace) -> Credentials:
    """What the options name. Raises WrongUsage."""
    return Credentials(**_checked(args))


def client_of(args: argparse.Namespace, **more: Any) -> seqsvr.AsyncClient:
    """A client towards `args.addr` by what the options name. Raises WrongUsage."""
    return seqsvr.AsyncClient(args.addr, **_checked(args), **more)


def _checked(args: argparse.Namespace) -> dict[str, Any]:
    """Arguments of what takes `tls` and `token_file`."""
    for option in ("key", "token_file"):
        if getattr(args, option) is not None:
            check_secret(getattr(args, option), f"--{option.replace('_', '-')}")
    try:
        named = (args.ca, args.cert, args.key, args.server_name)
        tls = seqsvr.Tls(args.ca, args.cert, args.key, args.server_name or "")
        found = {"tls": tls if any(named) else None, "token_file": args.token_file}
        Credentials(**found)
    except OSError as error:
        raise WrongUsage(f"cannot read {error.filename}: {error.strerror}") from None
    except ValueError as error:
        raise WrongUsage(str(error)) from None
    return found
