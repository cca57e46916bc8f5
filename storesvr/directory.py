"""The data directory of one store: private, held by one process, and with a witness (ledger.py).

LOCK       locked with flock for as long as the process lives; holds its pid
witness    two slots, written in turn, so that one torn or rotten slot leaves the other
data.mdb   LMDB, with lock.mdb beside it
outliving  how long a lease may outlive the process that granted it
"""

import errno
import fcntl
import os
import stat
from pathlib import Path

from clustermap.logs import get_logger
from storesvr.errors import Blank, CannotOpen, DirectoryInUse, EngineCorrupt, EngineFailed
from storesvr.ledger import (
    WITNESS_SIZE,
    Witness,
    decode_outliving,
    decode_witness,
    encode_outliving,
    encode_witness,
)

_log = get_logger(__name__)

_SLOT = 512  # slots lie in different sectors
_LITTLE = 2**20  # bytes: less room than a commit of many records may take


class Directory:
    """Opened and locked on construction, let go by `close` or the end of the process.

    create: make it where it is missing. Raises Blank, DirectoryInUse, CannotOpen.
    """

    def __init__(self, path: Path, *, create: bool) -> None:
        self.path = path
        self.data_file = path / "data.mdb"
        self._witness_file = path / "witness"
        self._witness = -1
        _make_private(path, create=create)
        self._lock = _lock(path / "LOCK")

    def close(self) -> None:
        """Idempotent."""
        for descriptor in (self._witness, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._witness = self._lock = -1

    def data_size(self) -> int:
        """Bytes of the data file, 0 where it is missing."""
        try:
            return self.data_file.stat().st_size
        except FileNotFoundError:
            return 0

    def free_bytes(self) -> int:
        """Room on the disk; -1: it cannot be told."""
        try:
            disk = os.statvfs(self.path)
        except OSError:
            return -1
        return disk.f_bavail * disk.f_frsize

    def blamed(self, error: Exception) -> str:
        """What went wrong in here, for an operator, who is told plainly of a full disk.

        LMDB reports a write that a full disk has cut short as an input/output error.
        """
        free = self.free_bytes()
        if free < 0:
            return str(error)
        if free < _LITTLE or os.strerror(errno.ENOSPC) in str(error):
            return f"{error} (its disk is full: {free} bytes are free)"
        return f"{error} ({free} bytes are free on its disk)"

    def recall(self) -> Witness:
        """The witness; Witness(0, 0) where no store has been created. Raises EngineCorrupt.

        Also checks that the data file is not shorter than it was, before anybody maps it: reading
        a mapped page beyond the end of its file kills the process.
        """
        try:
            stored = self._witness_file.read_bytes()
        except FileNotFoundError:
            if self.data_size():
                raise EngineCorrupt(f"{self._witness_file} is missing") from None
            return Witness()
        witness = max(_slots(stored), default=None)
        if witness is None:
            raise EngineCorrupt(f"{self._witness_file} fails its checksum")
        if self.data_size() < witness.file_size:
            raise EngineCorrupt(
                f"{self.data_file} is truncated: {self.data_size()} of at least "
                f"{witness.file_size} bytes"
            )
        return witness

    def begin_creation(self) -> None:
        """Note that there is nothing of worth in the data file, and remove what is left of it."""
        self._write_all(Witness())
        self.data_file.unlink(missing_ok=True)
        (self.path / "lock.mdb").unlink(missing_ok=True)

    def end_creation(self, witness: Witness) -> None:
        """From now on the data file is of worth. Synced, and both slots say so."""
        self._write_all(witness)
        sync_directory(self.path)
        sync_directory(self.path.parent)

    def replace_data(self, file: Path, witness: Witness) -> None:
        """Put a synced file in place of the data file; the witness must hold for both."""
        self._write_all(witness)
        file.rename(self.data_file)
        sync_directory(self.path)

    def note(self, witness: Witness) -> None:
        """After a commit. Not synced: see ledger.py. Raises OSError."""
        if self._witness < 0:
            self._witness = os.open(self._witness_file, os.O_RDWR | os.O_CLOEXEC)
        os.pwrite(self._witness, encode_witness(witness), _SLOT * (witness.commits & 1))

    def _write_all(self, witness: Witness) -> None:
        slot = encode_witness(witness).ljust(_SLOT, b"\0")
        descriptor = os.open(self._witness_file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            written = os.pwrite(descriptor, slot + slot, 0)
            if written != 2 * _SLOT:
                raise EngineFailed(f"{self._witness_file}: wrote {written} of {2 * _SLOT} bytes")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def recall_outliving(path: Path) -> int | None:
    """Nanoseconds that a lease of an earlier process may have run on; None: nobody knows.

    path: the data directory, held by the caller. Raises CannotOpen.
    """
    try:
        return decode_outliving((path / "outliving").read_bytes())
    except (FileNotFoundError, EngineCorrupt):
        return None
    except OSError as error:
        raise CannotOpen(f"{path}: {error.strerror}") from error


def note_outliving(path: Path, lease_ns: int) -> None:
    """Make it durable, all or nothing. Raises CannotOpen."""
    new = path / "outliving.new"
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, encode_outliving(lease_ns))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        new.rename(path / "outliving")
        sync_directory(path)
    except OSError as error:
        raise CannotOpen(f"{path}: {error.strerror}") from error


def _slots(stored: bytes) -> list[Witness]:
    found = []
    for start in (0, _SLOT):
        try:
            found.append(decode_witness(stored[start : start + WITNESS_SIZE]))
        except EngineCorrupt:
            continue  # the other slot stands
    return found


def _make_private(path: Path, *, create: bool) -> None:
    """A directory of ours, of mode 0700: an open one is closed, but for one that all may write."""
    try:
        if create:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
        status = path.stat()
        if not stat.S_ISDIR(status.st_mode):
            raise CannotOpen(f"{path} is not a directory")
        if status.st_uid != os.geteuid():
            raise CannotOpen(
                f"{path} belongs to user {status.st_uid}, and we are user {os.geteuid()}: whoever"
                " runs this has to own it"
            )
        if status.st_mode & stat.S_IWOTH:
            raise CannotOpen(
                f"{path} can be written by everybody (mode {stat.S_IMODE(status.st_mode):o}):"
                " look at what is in it, and chmod it to 700"
            )
        if status.st_mode & 0o077:
            # Kubernetes opens it to our own group (fsGroup) at each start.
            _log.warning("directory_closed", path=str(path), mode=f"{status.st_mode & 0o7777:o}")
            path.chmod(0o700)
    except FileNotFoundError:
        raise Blank(f"{path} does not exist") from None
    except OSError as error:
        raise CannotOpen(f"{path}: {error.strerror}") from error


def _lock(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CannotOpen(f"{path}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise DirectoryInUse(f"{path.parent} is in use by process {holder}") from None
    except OSError as error:
        os.close(descriptor)
        raise CannotOpen(f"{path}: {error.strerror}") from error
    return descriptor


def sync_directory(path: Path) -> None:
    """Make names made, renamed or removed in a directory durable. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
