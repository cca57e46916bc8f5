"""What is done to the data directory of a replica that does not run."""

import shutil
from pathlib import Path


def copied(data: Path, to: Path) -> None:
    shutil.copytree(data, to)


def restored(kept: Path, data: Path) -> None:
    """The kept directory in place of what is there; it is a copy no longer."""
    shutil.rmtree(data)
    kept.rename(data)


def flipped_records(file: Path) -> int:
    """Flip the lowest bit of max_seq in every record, also in pages that are no longer in use.

    Returns how many.
    """
    content, flipped, at = bytearray(file.read_bytes()), 0, -1
    while (at := content.find(b"SQRC", at + 1)) >= 0:
        content[at + 47] ^= 1
        flipped += 1
    file.write_bytes(content)
    return flipped
