"""The rights in force in a program: its auth file, read again when it changes, and its guards.

A file that cannot be used is refused at the start. One that comes later changes nothing: the rights
of before stay in force, the log says why, and a metric stands until it is mended. Whoever writes
one had better write it beside the old one and rename it.
"""

import argparse
import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import CollectorRegistry, Gauge

from clustermap.logs import cut
from svrprocess import auth_file, guarding
from svrprocess.failures import WrongUsage
from svrprocess.guarding import Guard
from svrprocess.identities import Identities
from svrprocess.options import Option
from svrprocess.roles import Rules
from svrprocess.secret_files import read_secret
from svrprocess.values import PATH

POLL_S = 1.0
OPTION = "--auth-file"
AUTH_FILE = Option("auth-file", "", PATH, "TOML file of identities, with their tokens and roles")

_log = logging.getLogger(__name__)
_Stamp = tuple[int, ...]


class Rights:
    """Of one program. path: of its auth file, empty for none. Raises WrongUsage."""

    def __init__(self, path: str, registry: CollectorRegistry) -> None:
        self._path = path
        self._guards: list[Guard] = []
        self._denied = guarding.counter(registry)
        self._refused = Gauge(
            "seqsvr_auth_file_refused",
            "1: the auth file on disk cannot be used, and an earlier one is in force.",
            registry=registry,
        )
        self._stamp: _Stamp | None = None
        self._needs_token = False
        self._complaint = ""
        self.identities = Identities()
        if path:
            self._stamp = _stamped(path)
            self.identities = read(path)

    def guard(self, rules: Rules, args: argparse.Namespace, prefix: str = "") -> Guard | None:
        """Of a port; None where everybody may do everything there.

        prefix: of the options that say how the port is protected, peer- or none. Raises WrongUsage
        where nobody could have a role.
        """
        given = vars(args)
        encrypted, certificates = (
            bool(given.get(f"{prefix}{name}".replace("-", "_")))
            for name in ("cert-file", "client-cert-auth")
        )
        if not certificates and not self._path:
            if encrypted:
                text = f"--{prefix}cert-file alone gives nobody a role: it needs"
                raise WrongUsage(f"{text} --{prefix}client-cert-auth, or an --auth-file, too")
            return None
        if not certificates and not self.identities.has_tokens:
            text = f"{OPTION}: {self._path} has no token, and nobody shows a certificate"
            raise WrongUsage(f"{text} without --{prefix}client-cert-auth: nobody has a role")
        guard = Guard(rules, self.identities, self._denied)
        self._guards.append(guard)
        self._needs_token = self._needs_token or not certificates
        return guard

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """Follow the file inside the `async with`."""
        if not self._path:
            yield
            return
        task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait((task,))

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            stamp = _stamped(self._path)
            if (stamp != self._stamp or self._complaint) and await self._renewed():
                self._stamp = stamp

    async def _renewed(self) -> bool:
        """False: not yet. What cannot be read now may be in a moment, with nothing changed."""
        try:
            # A long one takes a while, and calls are being answered.
            found = await asyncio.to_thread(read, self._path)
            if self._needs_token and not found.has_tokens:
                raise WrongUsage(f"{OPTION}: {self._path}: nobody would have a token")
        except Exception as error:  # noqa: BLE001 - whatever it is, the file is followed on
            if str(error) != self._complaint:
                _log.error("event=auth_file_refused error=%s", error)
            self._complaint = str(error)
            self._refused.set(1)
            return False
        self._complaint = ""
        self._refused.set(0)
        self.identities = found
        for guard in self._guards:
            guard.install(found)
        _log.info("event=auth_file_read identities=%d", len(found.callers))
        return True


def read(path: str) -> Identities:
    """An auth file. Raises WrongUsage, which names it and what is wrong."""
    raw = read_secret(path, OPTION)
    try:
        return auth_file.parse(raw)
    except ValueError as error:
        raise WrongUsage(f"{OPTION}: {path}: {cut(str(error))}") from None


def _stamped(path: str) -> _Stamp | None:
    try:
        return _stamp(os.stat(path))
    except OSError:
        return None


def _stamp(status: os.stat_result) -> _Stamp:
    # The time of the last change of mode or owner counts, too.
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
