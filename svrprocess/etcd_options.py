"""The options by which a program finds the cluster map in etcd, and what they come to."""

import argparse
from pathlib import Path

from clustermap.etcd_options import EtcdOptions
from svrprocess.failures import WrongUsage
from svrprocess.options import Option
from svrprocess.secret_files import check_secret, read_secret
from svrprocess.values import ADDRESSES, PATH, TEXT

ETCD_OPTIONS = (
    Option("etcd", (), ADDRESSES, "etcd endpoints that hold the cluster map", required=True),
    Option("etcd-prefix", "/seqsvr/", TEXT, "what every key of the map begins with"),
    Option("etcd-ca", "", PATH, "PEM file with etcd's certificate authority; turns TLS on"),
    Option("etcd-cert", "", PATH, "PEM file with our certificate, with --etcd-key"),
    Option("etcd-key", "", PATH, "PEM file with the key of --etcd-cert"),
    Option("etcd-user", "", TEXT, "user name at etcd, with --etcd-password-file"),
    Option("etcd-password-file", "", PATH, "file with that user's password on its first line"),
)
"""For etcd with TLS, with a user, or plain."""


def etcd_options(args: argparse.Namespace) -> EtcdOptions:
    """What clustermap.etcd takes. Raises WrongUsage, also for a file that must not be used."""
    for one, other in (("etcd_cert", "etcd_key"), ("etcd_user", "etcd_password_file")):
        if bool(getattr(args, one)) != bool(getattr(args, other)):
            raise WrongUsage(f"{_flag(one)} and {_flag(other)} go together")
    if args.etcd_key:
        check_secret(args.etcd_key, "--etcd-key")
    try:
        return EtcdOptions(
            endpoints=args.etcd,
            prefix=args.etcd_prefix,
            ca=_readable(args, "etcd_ca"),
            cert=_readable(args, "etcd_cert"),
            key=_readable(args, "etcd_key"),
            user=args.etcd_user or None,
            password=_password(args),
        )
    except ValueError as error:
        raise WrongUsage(f"--etcd options: {error}") from None


def _flag(key: str) -> str:
    return "--" + key.replace("_", "-")


def _readable(args: argparse.Namespace, key: str) -> Path | None:
    if not getattr(args, key):
        return None
    path = Path(getattr(args, key))
    try:
        path.read_bytes()
    except OSError as error:
        raise WrongUsage(f"{_flag(key)}: cannot read {path}: {error.strerror}") from None
    return path


def _password(args: argparse.Namespace) -> str | None:
    if not args.etcd_password_file:
        return None
    lines = read_secret(args.etcd_password_file, "--etcd-password-file").splitlines()
    try:
        password = lines[0].decode() if lines else ""
    except UnicodeDecodeError:
        password = ""
    if not password:
        raise WrongUsage(f"--etcd-password-file: {args.etcd_password_file} holds no password")
    return password
