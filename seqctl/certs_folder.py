"""A folder of certificates: NAME.crt and NAME.key each, of which `ca` signs the others.

Readers look at files whenever they have changed, at any time. So files are written under other
names, synced, and then take their own, key and certificate at once but for an instant: who reads a
key that does not fit its certificate has met that instant, and reads both again a little later.
"""

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from seqctl.certs_issuing import LEAVES, UNREADABLE, Pair, hosts_of, issue, new_authority
from seqctl.failures import NotDone, WrongUsage

AUTHORITY = "ca"
DAYS = 90
_KEY_MODE, _CERT_MODE = 0o600, 0o644

File = tuple[str, bytes, int]
"""Its name, what it holds, and its mode."""


def init(
    folder: Path,
    hosts: Sequence[str] = (),
    days: float = DAYS,
    *,
    new_ca: bool = False,
    now: datetime | None = None,
) -> dict[str, x509.Certificate]:
    """Make or renew what is in `folder`: the certificates by name, the authority's first.

    hosts: that servers are called by, besides this machine; those of the last time if there are
    none; days: how long they last; new_ca: another authority, beside which the last one goes on
    being trusted. Raises WrongUsage, NotDone, OSError.
    """
    now = datetime.now(UTC) if now is None else now
    _make(folder)
    with _locked(folder):
        authority, files = _authority(folder, now, new_ca=new_ca)
        made = {AUTHORITY: authority.cert}
        for leaf in LEAVES:
            wanted = hosts or _last_hosts(folder / f"{leaf.name}.crt")
            pair = issue(authority, leaf, wanted, now, timedelta(days=days))
            made[leaf.name] = pair.cert
            files += _files(leaf.name, pair.cert_pem(), pair.key_pem())
        replace(folder, files)
    return made


def replace(folder: Path, files: Sequence[File]) -> None:
    """Give names new contents: all of them or, where there is no room for all, none."""
    scratches: list[Path] = []
    try:
        for name, content, mode in files:
            descriptor, path = tempfile.mkstemp(dir=folder, prefix=f".{name}.")
            scratches.append(Path(path))
            with open(descriptor, "wb") as file:
                os.fchmod(descriptor, mode)
                file.write(content)
                file.flush()
                os.fsync(descriptor)
        for scratch, (name, _, _) in zip(scratches, files, strict=True):
            os.replace(scratch, folder / name)
    finally:
        for scratch in scratches:
            scratch.unlink(missing_ok=True)
    _sync(folder)


def read_pair(folder: Path, name: str) -> Pair | None:
    """NAME.crt, of which the first certificate counts, and NAME.key; None where neither is there.

    Raises NotDone for what cannot be used.
    """
    cert, key = folder / f"{name}.crt", folder / f"{name}.key"
    missing = [path for path in (cert, key) if not path.exists()]
    if len(missing) == 2:
        return None
    if missing:
        raise NotDone(f"{missing[0]} is missing: nothing was written")
    try:
        own = x509.load_pem_x509_certificates(cert.read_bytes())[0]
        private = load_pem_private_key(key.read_bytes(), password=None)
        public = own.public_key()
    except UNREADABLE as error:
        raise NotDone(f"{cert}, {key}: {error}") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise NotDone(f"{key} is no key that was made here: nothing was written")
    if private.public_key() != public:
        raise NotDone(f"{key} is not the key of {cert}: nothing was written")
    return Pair(own, private)


def _authority(folder: Path, now: datetime, *, new_ca: bool) -> tuple[Pair, list[File]]:
    """Who signs, and its files where they are new."""
    held = read_pair(folder, AUTHORITY)
    if held is None or new_ca:
        made = new_authority(now)
        before = [] if held is None or held.cert.not_valid_after_utc <= now else [held.cert_pem()]
        trusted = b"".join([made.cert_pem(), *before])
        return made, _files(AUTHORITY, trusted, made.key_pem())
    if held.cert.not_valid_after_utc <= now:
        raise NotDone(f"{folder / AUTHORITY}.crt has expired: --new-ca makes another")
    return held, []


def _files(name: str, cert: bytes, key: bytes) -> list[File]:
    return [(f"{name}.key", key, _KEY_MODE), (f"{name}.crt", cert, _CERT_MODE)]


def _last_hosts(path: Path) -> tuple[str, ...]:
    """What the certificate there was made out to, which may lack its key by now."""
    try:
        return hosts_of(x509.load_pem_x509_certificate(path.read_bytes()))
    except (FileNotFoundError, ValueError):
        return ()


def _make(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if stat.S_IMODE(status.st_mode) & 0o022:
        raise WrongUsage(f"{folder} can be written by others: chmod it to 700")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
