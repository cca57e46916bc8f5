"""How one end of a connection shows who it is, and knows whom it talks to.

gRPC reads no file: a channel keeps the certificates that it was opened with for as long as it
lives. So whoever keeps channels calls `refresh` now and then, opens new ones once a new
`generation` has begun, and closes the old when nothing is in flight on them any more.
"""

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

    Both are read here: raises OSError for what cannot be read, ValueError for certificates that
    are none or do not fit their key, and for a token that is none.
    """

    def __init__(
        self, tls: Tls | None = None, token_file: str | PathLike[str] | None = None
    ) -> None:
        self.tls = tls
        self.generation = 1
        self._token_file = None if token_file is None else os.fspath(token_file)
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

    def channel(self, address: str, options: Sequence[tuple[str, Any]]) -> grpc.aio.Channel:
        """To host:port, by what was read last. Connects when first used."""
        if self._tls is None:
            return grpc.aio.insecure_channel(address, options=options)
        name = self.tls.server_name if self.tls is not None else ""
        more = [("grpc.ssl_target_name_override", name)] if name else []
        return grpc.aio.secure_channel(address, self._tls, options=[*options, *more])

    def metadata(self) -> Metadata:
        """What goes with every call."""
        return self._metadata

    def _stamped(self) -> _Stamp:
        files = () if self.tls is None else self.tls.files
        if self._token_file is not None:
            files = (*files, self._token_file)
        found = (os.stat(file) for file in files)
        return tuple((one.st_mtime_ns, one.st_size, one.st_ino) for one in found)

    def _read(self, stamp: _Stamp) -> None:
        tls, metadata = _channel_credentials(self.tls), _bearer(self._token_file)
        if self._stamped() != stamp:
            raise ValueError("certificates or token have changed while they were read")
        self._tls, self._metadata = tls, metadata


def _channel_credentials(tls: Tls | None) -> grpc.ChannelCredentials | None:
    if tls is None:
        return None
    ca, key, cert = (_content(file) for file in (tls.ca, tls.key, tls.cert))
    _check(tls)
    return grpc.ssl_channel_credentials(ca, key, cert)


def _check(tls: Tls) -> None:
    """gRPC itself takes anything, and then fails every call."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    file = tls.ca
    try:
        if tls.ca is not None:
            context.load_verify_locations(tls.ca)
        if tls.cert is not None:
            file = tls.cert
            context.load_cert_chain(tls.cert, tls.key, password="")  # or it asks at the terminal
    except ssl.SSLError as error:
        raise ValueError(f"{file}: {error.reason or 'not PEM'}") from None


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


PLAIN = Credentials()
"""In the clear, and nobody in particular."""
