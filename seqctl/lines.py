"""Numbered lines of plain or gzipped files."""

import gzip
import zlib
from collections.abc import Iterator

from seqctl.failures import WrongUsage


def read_lines(path: str) -> Iterator[tuple[int, bytes]]:
    """Each line with its number, from 1, and its newline if it has one.

    `path` is unpacked if it ends in .gz. Raises WrongUsage where the file cannot be read.
    """
    try:
        with gzip.open(path) if path.endswith(".gz") else open(path, "rb") as file:
            yield from enumerate(file, start=1)
    except EOFError:
        raise WrongUsage(f"{path}: the compressed file is cut off") from None
    except (OSError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise WrongUsage(f"{path}: {reason}") from None
