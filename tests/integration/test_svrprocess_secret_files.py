"""Files that others may not read or write: by owner and mode, as root and as anybody else."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import pytest

from svrprocess.failures import WrongUsage
from svrprocess.secret_files import (
    MAX_BYTES,
    check_secret,
    check_trusted,
    read_secret,
    read_trusted,
    wrong,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "key"
    found.write_bytes(b"secret")
    return found


@pytest.mark.parametrize("mode", [0o400, 0o600, 0o700])
def test_what_is_ours_alone_is_read(file: Path, mode: int) -> None:
    file.chmod(mode)
    assert read_secret(file, "--key-file") == b"secret"
    assert read_trusted(str(file), "--trusted-ca-file") == b"secret"
    check_secret(file, "--key-file")


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o620, 0o644, 0o666, 0o660, 0o777, 0o601])
def test_a_secret_that_others_have_access_to_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    for refuses in (read_secret, check_secret):
        with pytest.raises(WrongUsage, match=rf"^--key-file: {file} can be .* by others .mode 0"):
            refuses(file, "--key-file")


def test_authorities_may_be_read_by_everybody_but_not_written(file: Path) -> None:
    file.chmod(0o644)
    assert read_trusted(file, "--trusted-ca-file") == b"secret"
    for mode in (0o664, 0o646):
        file.chmod(mode)
        for refuses in (read_trusted, check_trusted):
            with pytest.raises(WrongUsage, match="can be written by others"):
                refuses(file, "--trusted-ca-file")


@pytest.mark.parametrize(
    ("owner", "we", "mode", "most", "says"),
    [
        (0, 70, 0o440, 0o640, ""),  # root's, given to us by our group
        (0, 70, 0o460, 0o640, "written by others"),
        (0, 70, 0o644, 0o640, "read by others (mode 0644): chmod it to 0640"),
        (70, 70, 0o400, 0o600, ""),
        (70, 70, 0o440, 0o600, "chmod it to 0600"),
        (71, 70, 0o400, 0o600, "belongs to user 71: it has to be ours (user 70)"),
        (71, 70, 0o644, 0o644, "belongs to user 71"),
        (71, 0, 0o400, 0o600, ""),  # root reads what its owner alone may
        (71, 0, 0o440, 0o600, "read by others"),
    ],
)
def test_whose_a_file_is_matters_as_much_as_its_mode(
    owner: int, we: int, mode: int, most: int, says: str
) -> None:
    found = wrong(mode, owner, we, most)
    assert says in found and bool(found) == bool(says)


def test_a_file_of_somebody_else_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.chmod(0o600)
    other = file.stat().st_uid
    monkeypatch.setattr(os, "fstat", lambda fd: Owned(70, stat.S_IFREG | 0o600))
    monkeypatch.setattr(os, "geteuid", lambda: other + 71)
    for refuses in (read_secret, read_trusted):
        with pytest.raises(WrongUsage, match="belongs to user 70"):
            refuses(file, "--key-file")


@dataclass
class Owned:
    """As much of what fstat says."""

    st_uid: int
    st_mode: int
    st_size: int = 6
    st_blksize: int = 4096


def test_links_lead_to_what_counts(file: Path) -> None:
    """As Kubernetes mounts secrets: a link to a link to the file."""
    (file.parent / "..data").symlink_to(file.parent)
    link = file.parent / "tls.key"
    link.symlink_to("..data/key")
    file.chmod(0o600)
    assert read_secret(link, "--key-file") == b"secret"
    file.chmod(0o644)
    with pytest.raises(WrongUsage, match=str(link)):
        read_secret(link, "--key-file")


def test_what_is_no_file_is_refused_at_once(file: Path) -> None:
    pipe = file.parent / "pipe"
    os.mkfifo(pipe, 0o600)
    for path in (pipe, file.parent, "/dev/null"):
        with pytest.raises(WrongUsage, match="is not a file"):
            read_secret(path, "--key-file")
    with pytest.raises(WrongUsage, match=r"cannot read .*: No such file"):
        read_secret(file.parent / "missing", "--key-file")


def test_what_is_too_long_to_be_a_secret_is_refused(file: Path) -> None:
    file.chmod(0o600)
    file.write_bytes(bytes(MAX_BYTES))
    assert len(read_secret(file, "--key-file")) == MAX_BYTES
    file.write_bytes(bytes(MAX_BYTES + 1))
    with pytest.raises(WrongUsage, match="longer"):
        read_secret(file, "--key-file")
    check_trusted(file, "BACKUP")
