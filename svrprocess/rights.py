"""The rights in force in a program: its auth file, read again when it changes, and its guards.

A file that cannot be used is refused at the start. One that comes later changes nothing: the rights
of before stay in force, the log says why, and a metric stands until it is mended. Whoever writes
one had better write it beside the old one and rename it.
"""

import asyncio
import logging
import os
import stat
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
from svrprocess.values import PATH

POLL_S = 1.0
AUTH_FILE = Option("auth-file", "", PATH, "TOML file of identities, with their tokens and roles")

_log = logging.getLogger(__name__)
_Stamp = tuple[int, ...]


class AuthFileError(Exception):
    """The auth file cannot be used; the text names it, and says why."""


def read(path: str) -> Identities:
    """Raises AuthFileError."""
    return _read(path)[0]


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
        self.identities = Identities()
        if path:
            try:
                self.identities, self._stamp = _read(path)
            except AuthFileError as error:
                raise WrongUsage(f"--auth-file {error}") from None

    def guard(
        self, rules: Rules, *, certificates: bool, encrypted: bool, prefix: str = ""
    ) -> Guard | None:
        """Of a port; None where everybody may do everything there.

        certificates: callers have to show one; encrypted: the port speaks TLS; prefix: of the
        port's options, for the text of WrongUsage, raised where nobody could have a role.
        """
        if not certificates and not self._path:
            if encrypted:
                text = f"--{prefix}cert-file alone gives nobody a role: it needs"
                raise WrongUsage(f"{text} --{prefix}client-cert-auth, or an --auth-file, too")
            return None
        if not certificates and not self.identities.has_tokens:
            text = f"--auth-file {self._path} has no token, and nobody shows a certificate"
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
            if stamp != self._stamp:
                self._stamp = stamp
                await self._renew()

    async def _renew(self) -> None:
        try:
            # A long one takes a while, and calls are being answered.
            found, self._stamp = await asyncio.to_thread(_read, self._path)
            if self._needs_token and not found.has_tokens:
                raise AuthFileError(f"{self._path}: nobody would have a token")
        except AuthFileError as error:
            _log.error("event=auth_file_refused error=%s", error)
            self._refused.set(1)
            return
        self._refused.set(0)
        self.identities = found
        for guard in self._guards:
            guard.install(found)
        _log.info("event=auth_file_read identities=%d", len(found.callers))


def _read(path: str) -> tuple[Identities, _Stamp]:
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            status = os.fstat(file.fileno())
            _check_mode(status)
            raw = file.read(auth_file.MAX_BYTES + 1)
        return auth_file.parse(raw), _stamp(status)
    except OSError as error:
        raise AuthFileError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise AuthFileError(f"{path}: {cut(str(error))}") from None


def _without_waiting(path: str, flags: int) -> int:
    """A pipe would be waited for until somebody writes into it."""
    return os.open(path, flags | os.O_NONBLOCK)


def _check_mode(status: os.stat_result) -> None:
    """Who can write it has every role; who can read it can try tokens out. Raises ValueError."""
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is no file")
    if status.st_uid not in (0, os.geteuid()):
        raise ValueError(f"it belongs to user {status.st_uid}, neither to us nor to root")
    if status.st_mode & 0o026:
        mode = stat.S_IMODE(status.st_mode)
        text = f"its mode is {mode:04o}: others must not read it, nor the group or others write it"
        raise ValueError(f"{text} (chmod 0600)")


def _stamped(path: str) -> _Stamp | None:
    try:
        return _stamp(os.stat(path))
    except OSError:
        return None


def _stamp(status: os.stat_result) -> _Stamp:
    # The time of the last change of mode or owner counts, too.
    return (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
