"""Numbered lines of plain or gzipped files."""

import gzip
import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import BinaryIO, Self

from seqctl.failures import WrongUsage

MAX_LINE = 1 << 20
"""Bytes; a file with a longer line is of another kind."""


def read_lines(path: str) -> Iterator[tuple[int, bytes]]:
    """Each line with its number, from 1, and its newline if it has one.

    `path` is unpacked if it ends in .gz. Raises WrongUsage where the file cannot be read.
    """
    with Lines(path) as lines:
        yield from lines


class Lines:
    """The same, with how far it has come. `path` - is standard input.

    size: bytes of the file as it lies there, None if that is not known; read: of these, so far.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        with _explained(path):
            self._raw: BinaryIO = sys.stdin.buffer if path == "-" else open(path, "rb")  # noqa: SIM115
        known = path != "-" and os.path.isfile(path)
        self.size = os.path.getsize(path) if known else None
        self._read = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.path != "-":
            self._raw.close()

    @property
    def read(self) -> int:
        return self._raw.tell() if self.size is not None else self._read

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Raises WrongUsage where it cannot be read."""
        packed = self.path.endswith(".gz")
        with _explained(self.path):
            file = gzip.GzipFile(fileobj=self._raw) if packed else self._raw
            number = 0
            while line := file.readline(MAX_LINE):
                number += 1
                self._read += len(line)
                if len(line) == MAX_LINE:
                    raise WrongUsage(f"{self.path}:{number}: a line is no longer than {MAX_LINE}")
                yield number, line


@contextmanager
def _explained(path: str) -> Iterator[None]:
    try:
        yield
    except EOFError:
        raise WrongUsage(f"{path}: the compressed file is cut off") from None
    except (OSError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise WrongUsage(f"{path}: {reason}") from None
