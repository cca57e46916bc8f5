"""What somebody shows to a port, and what an auth file says of tokens."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from certificates import Issued

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Somebody:
    """A column of the table. ca: None where it speaks in the clear."""

    name: str
    ca: Path | None = None
    certificate: Issued | None = None
    metadata: Metadata = ()

    def channel(self, address: str) -> grpc.aio.Channel:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        if self.ca is None:
            return grpc.aio.insecure_channel(address, options=options)
        own = self.certificate
        files = (None, None) if own is None else (own.key.read_bytes(), own.crt.read_bytes())
        credentials = grpc.ssl_channel_credentials(self.ca.read_bytes(), *files)
        return grpc.aio.secure_channel(address, credentials, options=options)


def bearer(token: str) -> Metadata:
    return (("authorization", f"Bearer {token}"),)


def entry(token: str, *roles: str, name: str = "", uids: Sequence[str] = ()) -> str:
    """An [[identity]] that is known by this token."""
    scope = f"uids = {list(uids)}\n" if uids else ""
    return (
        f'[[identity]]\nname = "{name or token}"\n'
        f'token_sha256 = "{hashlib.sha256(token.encode()).hexdigest()}"\n'
        f"roles = {list(roles)}\n{scope}"
    )


def written(file: Path, *entries: str) -> Path:
    """The auth file, in one step and for us alone."""
    new = file.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text("\n".join(entries))
    os.replace(new, file)
    return file
