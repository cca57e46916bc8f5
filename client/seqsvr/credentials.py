"""How one end of a connection shows who it is, and knows whom it talks to.

gRPC reads no file: a channel keeps the certificates that it was opened with for as long as it
lives. So whoever keeps channels calls `refresh` now and then, opens new ones once a new
`generation` has begun, and closes the old when nothing is in flight on them any more.

What gRPC is given unseen it finds fault with at the next handshake, where it is too late: so a new
generation begins only with files that were found to be sound, and to fit one another.
"""

import logging
import os
import ssl
from collections.abc import Sequence
from os import PathLike
from typing import Any

import grpc
import grpc.aio

from seqsvr.tls import Tls

POLL_S = 1.0
"""How often it is worth to call `refresh`, in seconds."""
MAX_TOKEN_BYTES = 4096

Metadata = tuple[tuple[str, str], ...]
_Stamp = tuple[tuple[int, int, int], ...]


class Credentials:
    """tls: None for connections in the clear; token_file: holds a bearer token on its first line.

    Both are read here: raises OSError for what cannot be read, ValueError for what is no PEM, a key
    that is not its certificate's, or a token that is none.
    """

    def __init__(
        self, tls: Tls | None = None, token_file: str | PathLike[str] | None = None
    ) -> None:
        self.tls = tls
        self.generation = 1
        self._token_file = None if token_file is None else os.fspath(token_file)
        self._complaint = ""
        self._stamp = self._stamped()
        self._read(self._stamp)

    def refresh(self) -> bool:
        """Read what has changed; whether it had. OSError, ValueError: all is as it was.

        Files of a rotation come one after the other: those that do not fit each other, and those
        that change while they are read, are such a ValueError, and read again the next time.
        """
        stamp = self._stamped()
        if stamp == self._stamp:
            return False
        self._read(stamp)
        self._stamp = stamp
        self.generation += 1
        return True

    def look(self) -> bool:
        """As `refresh`; what is wrong with the files is said in the log instead, once."""
        try:
            changed, complaint = self.refresh(), ""
        except (OSError, ValueError) as error:
            changed, complaint = False, str(error)
        if complaint and complaint != self._complaint:
            _log.warning("credentials stay as they were, %s", complaint)
        self._complaint = complaint
        return changed

    @property
    def watched(self) -> bool:
        """Whether there are files that may change."""
        return bool(self._files())

    def channel(self, address: str, options: Sequence[tuple[str, Any]]) -> grpc.aio.Channel:
        """To host:port, by what was read last. Connects when first used."""
        if self._tls is None:
            return grpc.aio.insecure_channel(address, options=options)
        name = self.tls.server_name if self.tls else ""
        more = [("grpc.ssl_target_name_override", name)] if name else []
        return grpc.aio.secure_channel(address, self._tls, options=[*options, *more])

    def metadata(self) -> Metadata:
        """What goes with every call."""
        return self._metadata

    def _files(self) -> tuple[str, ...]:
        files = self.tls.files if self.tls else ()
        return files if self._token_file is None else (*files, self._token_file)

    def _stamped(self) -> _Stamp:
        found = (os.stat(file) for file in self._files())
        return tuple((one.st_mtime_ns, one.st_size, one.st_ino) for one in found)

    def _read(self, stamp: _Stamp) -> None:
        tls, metadata = _channel_credentials(self.tls), _bearer(self._token_file)
        if self._stamped() != stamp:
            raise ValueError(f"{', '.join(self._files())}: changed while they were read")
        self._tls, self._metadata = tls, metadata


def _channel_credentials(tls: Tls | None) -> grpc.ChannelCredentials | None:
    if tls is None:
        return None
    ca, key, cert = (_content(file) for file in (tls.ca, tls.key, tls.cert))
    _check(tls)
    return grpc.ssl_channel_credentials(ca, key, cert)


def _check(tls: Tls) -> None:
    """Raises ValueError, and OSError for what cannot be read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if tls.ca is not None:
        try:
            context.load_verify_locations(cafile=tls.ca)
        except ssl.SSLError as error:
            raise ValueError(f"{os.fspath(tls.ca)} holds no certificates: {_why(error)}") from None
    if tls.cert is not None and tls.key is not None:
        try:
            # An empty password, lest a key that has one makes this ask the terminal for it.
            context.load_cert_chain(tls.cert, tls.key, password="")
        except ssl.SSLError as error:
            pair = f"{os.fspath(tls.cert)} and {os.fspath(tls.key)}"
            raise ValueError(f"{pair} are no pair: {_why(error)}") from None


def _why(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()


def _content(file: str | PathLike[str] | None) -> bytes | None:
    if file is None:
        return None
    with open(file, "rb") as opened:
        return opened.read()


def _bearer(file: str | None) -> Metadata:
    if file is None:
        return ()
    with open(file, "rb") as opened:
        lines = opened.read(MAX_TOKEN_BYTES + 1).splitlines()
    token = lines[0].strip() if lines else b""
    if not token or len(token) > MAX_TOKEN_BYTES or not all(33 <= byte <= 126 for byte in token):
        raise ValueError(f"{file} holds no token on its first line")
    return (("authorization", f"Bearer {token.decode('ascii')}"),)


_log = logging.getLogger("seqsvr")
PLAIN = Credentials()
"""In the clear, and nobody in particular."""
