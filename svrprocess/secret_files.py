"""Files that others may not read, or may not write, checked each time they are read.

    owner                 a secret's mode      a trusted file's mode
    root                  at most 0640         at most 0644
    we ourselves          at most 0600         at most 0644
    somebody else         refused; as ours where we are root ourselves

These are PostgreSQL's rules for keys. Root's group may read so that a file can be given to one
service: Kubernetes does so (`defaultMode: 0440` with `fsGroup`), as do packages that make keys.
Links are followed: what counts is the file that is opened, and it is looked at once it is open.
"""

import os
import stat
from os import PathLike

from svrprocess.failures import WrongUsage

MAX_BYTES = 1 << 20
_SECRET, _OF_ROOT, _TRUSTED = 0o600, 0o640, 0o644

Path = str | PathLike[str]


def read_secret(path: Path, what: str) -> bytes:
    """A key's, a token's or a password's content, which nobody else may read or write.

    what: the option that names it, for the operator. Raises WrongUsage: it cannot be read, is no
    file, is longer than MAX_BYTES, or others have access to it.
    """
    return _read(path, what, _SECRET, _OF_ROOT, MAX_BYTES)


def read_trusted(path: Path, what: str) -> bytes:
    """The content of what others may read but must not write: authorities. Raises WrongUsage."""
    return _read(path, what, _TRUSTED, _TRUSTED, MAX_BYTES)


def check_secret(path: Path, what: str) -> None:
    """As `read_secret`, for a file that somebody else is going to read."""
    _read(path, what, _SECRET, _OF_ROOT, 0)


def check_trusted(path: Path, what: str) -> None:
    """As `read_trusted`, for a file of any size that somebody else is going to read."""
    _read(path, what, _TRUSTED, _TRUSTED, 0)


def _read(path: Path, what: str, own: int, of_root: int, most: int) -> bytes:
    try:
        # What is no file could keep us waiting for ever.
        with open(
            path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)
        ) as it:
            _check(os.fstat(it.fileno()), f"{what}: {os.fspath(path)}", own, of_root)
            content = it.read(most + 1) if most else b""
    except IsADirectoryError:
        raise WrongUsage(f"{what}: {os.fspath(path)} is not a file") from None
    except OSError as error:
        raise WrongUsage(f"{what}: cannot read {os.fspath(path)}: {error.strerror}") from None
    if len(content) > most:
        raise WrongUsage(f"{what}: {os.fspath(path)} is longer than {most} bytes")
    return content


def _check(status: os.stat_result, named: str, own: int, of_root: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise WrongUsage(f"{named} is not a file")
    mode, most = stat.S_IMODE(status.st_mode), of_root if status.st_uid == 0 else own
    found = wrong(mode, status.st_uid, os.geteuid(), most)
    if found:
        raise WrongUsage(f"{named} {found}")


def wrong(mode: int, owner: int, we: int, most: int) -> str:
    """Why a file of `owner` is not for us to use; "" if it is. most: the widest mode it may have.

    owner, we: numbers of users.
    """
    if owner not in (0, we) and we != 0:
        return f"belongs to user {owner}: it has to be ours (user {we}) or root's"
    if mode & 0o077 & ~most:
        does = "written" if mode & 0o022 else "read"
        return f"can be {does} by others (mode {mode:04o}): chmod it to {most:04o}"
    return ""
