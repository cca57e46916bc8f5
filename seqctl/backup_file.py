"""A backup as a file: lines of JSON, the last one of which is a digest of all before it.

    {"backup": 1, "cluster": {...}, "by": ..., "began": ...}          once
    {"set": {...}, "revision": ..., "version": ..., "highest_epoch": ..., "complete": ...}
    [section, promised, max_seq, owner_epoch, owner, released]        for each record of the Set
    {"end": NAME, "records": ..., "ended": ...}                       and so on, Set after Set
    {"sha256": ...}

cluster and set are the map's documents, owner is 16 hex digits ("" is nobody), times are UTC.
Snapshots are left out: what they count from is behind as soon as one more number is handed out, and
nothing may ever be served from an old one. A file is written under another name, synced, and then
given its own, so that there never is half of one; one that is cut short or altered is refused. The
digest is no signature: what others may have written is refused, too.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NoReturn

from clustermap.documents import U64_MAX, hex64
from clustermap.errors import MapCorrupt
from clustermap.logs import cut
from clustermap.model import Cluster, SetSpec
from seqctl.failures import VIOLATION, CommandFailed, NotDone, WrongUsage
from seqsvr.v1 import store_pb2 as pb
from svrprocess.secret_files import check_trusted

FORMAT = 1
_HEX64 = re.compile("[0-9a-f]{16}")
_DIGEST_LINE = 80  # its bytes at most
_MAX_LINE = 16 << 20  # bytes; a Set of very many ranges is the longest that is written
_UNREADABLE = (KeyError, TypeError, ValueError, StopIteration, RecursionError, MapCorrupt)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a backup knows of one Set.

    revision: of the map when it was read; version, highest_epoch: of the Set's assignments then;
    complete: at least R replicas answered for each section, so that every number that was handed
    out before it began is covered; records: by section, without snapshots.
    """

    spec: SetSpec
    revision: int
    version: int
    highest_epoch: int
    complete: bool
    records: dict[int, pb.StoredRecord] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Backup:
    """A whole file. began: when it was begun, as text; sha256: of all of it but the last line."""

    cluster: Cluster
    began: str
    sets: dict[str, Kept]
    sha256: str


class Damaged(CommandFailed):
    """A file that is no backup, or not all of one."""

    code = VIOLATION


def utc() -> str:
    """Now, as it stands in backups."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class Writer:
    """Writes one file, in a `with`. Without `finish` nothing is left of it."""

    def __init__(self, path: Path) -> None:
        """Raises WrongUsage where there is a file already, OSError."""
        if path.exists():
            raise WrongUsage(f"{path} is there already: backups are not written over")
        self.path = path
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._digest = hashlib.sha256()
        self._file: BinaryIO | None = None

    def __enter__(self) -> "Writer":
        self._file = os.fdopen(
            os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            self._part.unlink(missing_ok=True)

    def begin(self, cluster: Cluster, by: str) -> None:
        self._line({"backup": FORMAT, "cluster": _loaded(cluster), "by": by, "began": utc()})

    def begin_set(self, kept: Kept) -> None:
        """Its records follow by `records`."""
        self._line(
            {
                "set": _loaded(kept.spec),
                "revision": kept.revision,
                "version": kept.version,
                "highest_epoch": kept.highest_epoch,
                "complete": kept.complete,
            }
        )

    def records(self, records: Iterable[pb.StoredRecord]) -> None:
        for one in records:
            owner = hex64(one.owner) if one.owner else ""
            self._line(
                [one.section, one.promised, one.max_seq, one.owner_epoch, owner, one.released]
            )

    def end_set(self, name: str, records: int) -> None:
        self._line({"end": name, "records": records, "ended": utc()})

    def finish(self) -> str:
        """Make the file durable under its name; its digest. Raises WrongUsage, OSError."""
        digest = self._digest.hexdigest()
        self._line({"sha256": digest})
        file, self._file = self._file, None
        if file is None:
            raise ValueError("finished before")
        with file:
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(self._part, self.path)  # unlike a rename, this replaces nothing
        except FileExistsError:
            raise WrongUsage(f"{self.path} is there already: nothing is written over") from None
        finally:
            self._part.unlink()
        _sync(self.path.absolute().parent)
        return digest

    def _line(self, value: object) -> None:
        if self._file is None:
            raise ValueError("not open")
        line = json.dumps(value, separators=(",", ":")).encode() + b"\n"
        self._digest.update(line)
        self._file.write(line)


def read_backup(path: Path) -> Backup:
    """The backup in a file, which nobody else may have written.

    Raises Damaged where it is none, or is not whole, WrongUsage, OSError.
    """
    check_trusted(path, "FILE")
    sha256 = _verified(path)
    with path.open("rb") as file:
        lines = _Lines(file)
        try:
            return _read(lines, sha256)
        except _UNREADABLE as error:
            text = str(cut(str(error)))
            _refuse(path, f"line {lines.number}: {type(error).__name__}: {text}")


class _Lines:
    """JSON values of lines; `number`: of the last one taken."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.number = 0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        line = self._file.readline(_MAX_LINE)
        if not line:
            raise StopIteration
        self.number += 1
        return json.loads(line)


def _verified(path: Path) -> str:
    """The digest, once all that it covers has been read: nothing is believed before."""
    digest, last = hashlib.sha256(), b""
    with path.open("rb") as file:
        while line := file.readline(_MAX_LINE):
            digest.update(last)
            last = line
    found = digest.hexdigest()
    if not last.endswith(b"\n") or len(last) > _DIGEST_LINE or b'"sha256"' not in last:
        _refuse(path, "it ends before its last line: it is cut short, or is no backup")
    if last != b'{"sha256":"%s"}\n' % found.encode():
        _refuse(path, "its digest is not that of its content: it was altered")
    return found


def _read(lines: _Lines, sha256: str) -> Backup:
    head = next(lines)
    if head["backup"] != FORMAT:
        raise ValueError(f"format {head['backup']} is not known here, only {FORMAT} is")
    began = _text(head["began"])
    backup = Backup(Cluster.from_json(_dumped(head["cluster"])), began, {}, sha256)
    for line in lines:
        if "sha256" in line:
            return backup
        kept = Kept(
            SetSpec.from_json(_dumped(line["set"])),
            _integer(line["revision"]),
            _integer(line["version"]),
            _integer(line["highest_epoch"]),
            line["complete"] is True,
        )
        if kept.spec.name in backup.sets:
            raise ValueError(f"Set {kept.spec.name} is there twice")
        backup.sets[kept.spec.name] = kept
        _read_records(lines, kept)
    raise ValueError("it has no end")


def _read_records(lines: _Lines, kept: Kept) -> None:
    """All records of a Set, and the line that ends them."""
    for line in lines:
        if isinstance(line, dict):
            if (line["end"], line["records"]) != (kept.spec.name, len(kept.records)):
                raise ValueError(f"{len(kept.records)} records of {kept.spec.name} end as {line}")
            return
        section, promised, max_seq, owner_epoch, owner, released = line
        kept.records[_integer(section)] = pb.StoredRecord(
            section=section,
            promised=_integer(promised),
            max_seq=_integer(max_seq),
            owner_epoch=_integer(owner_epoch),
            owner=_owner(owner),
            released=released is True,
        )
    raise ValueError("it has no end")


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable() or len(value) > 100:
        raise ValueError(f"{value!r} is no text that belongs here")
    return value


def _owner(value: object) -> int:
    """As hex64 writes it; "" is nobody."""
    if value == "":
        return 0
    if not isinstance(value, str) or not _HEX64.fullmatch(value):
        raise ValueError(f"{value!r} is no incarnation")
    return int(value, 16)


def _integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= U64_MAX:
        raise ValueError(f"{value!r} is no number that belongs here")
    return value


def _loaded(document: Cluster | SetSpec) -> object:
    return json.loads(document.to_json())


def _dumped(value: object) -> bytes:
    return json.dumps(value).encode()


def _refuse(path: Path, why: str) -> NoReturn:
    raise Damaged(f"{path} cannot be used as a backup: {why}")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise NotDone(f"{folder}: {error.strerror}") from None
    finally:
        os.close(descriptor)
