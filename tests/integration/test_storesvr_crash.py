"""A writer killed at every boundary of a commit, and one whose disk is full. NRW-1, SEQ-3."""

import os
import re
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from storesvr.commits import EXIT_WRITE_FAILED
from storesvr.engine import LmdbEngine
from storesvr.replica import Replica
from storesvr_world import IDENTITY

ROUNDS = 12
TESTS = Path(__file__).parents[1]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(TESTS)}


def command(path: Path, rounds: int, where: str) -> list[str]:
    return [sys.executable, "-m", "storesvr_world.writer", str(path), str(rounds), where]


def acknowledged(output: str) -> dict[int, int]:
    rows = [line.split() for line in output.splitlines() if line.startswith("ack ")]
    return {int(section): int(max_seq) for _, section, max_seq in rows}


def stored(path: Path) -> dict[int, int]:
    with closing(LmdbEngine(path, IDENTITY)) as engine:
        replica = Replica(engine, now_ns=0)
        assert replica.out_of_quorum == ""
        found, _ = replica.scan(0, 2**32, 0, with_snapshots=True)
        return {record.section: record.max_seq for record, _ in found}


@pytest.mark.parametrize(
    ("where", "stored_last"),
    [("stage", False), ("commit", False), ("witness", True), ("committed", True), ("ack", True)],
)
def test_a_writer_killed_at_a_boundary_of_a_commit_has_every_acknowledged_write(
    tmp_path: Path, where: str, stored_last: bool
) -> None:
    path = tmp_path / "store"
    done = subprocess.run(
        command(path, ROUNDS, where), env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == -9, done.stderr
    acks = acknowledged(done.stdout)
    assert len(acks) == 8
    assert (1000 * ROUNDS in acks.values()) == (where == "ack")
    found = stored(path)
    for section, max_seq in acks.items():
        assert found[section] >= max_seq
    assert (found[ROUNDS % 8] == 1000 * ROUNDS) == stored_last


def test_a_writer_killed_at_any_time_has_every_acknowledged_write(tmp_path: Path) -> None:
    path = tmp_path / "store"
    acks: dict[int, int] = {}
    for lines in (2, 40, 300):
        with subprocess.Popen(
            command(path, 1_000_000, "ack"), env=environment(), stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            output = [writer.stdout.readline() for _ in range(lines)]
            writer.kill()
            output += writer.stdout.readlines()
        whole = "".join(output)
        seen = acknowledged(whole[: whole.rfind("\n")])
        acks |= {section: max(seq, acks.get(section, 0)) for section, seq in seen.items()}
        found = stored(path)
        for section, max_seq in acks.items():
            assert found[section] >= max_seq
    assert acks


def test_a_full_disk_ends_the_process_clearly_and_loses_no_acknowledged_write(
    tmp_path: Path,
) -> None:
    """The disk is a tmpfs of 4 MiB in a mount namespace of its own; the store is copied out of it,
    to where there is room, before the namespace goes."""
    if shutil.which("unshare") is None or shutil.which("mount") is None:
        pytest.fail("unshare and mount are missing: apt-get install util-linux mount")
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    script = (
        f"mount -t tmpfs -o size=4m,mode=0755 none {disk} || exit 99\n"
        f"{' '.join(command(disk / 'store', 100_000, 'never'))}\n"
        f"code=$?\ncp -a {disk}/store {kept}\nexit $code\n"
    )
    namespace = ["unshare", "--mount"]
    if os.geteuid() != 0:
        namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    done = subprocess.run(
        [*namespace, "sh", "-c", script],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == EXIT_WRITE_FAILED, (done.returncode, done.stderr)
    assert "store write failed, the process stops" in done.stderr
    free = re.search(r"\(its disk is full: (\d+) bytes are free\)", done.stderr)
    assert free is not None
    assert int(free[1]) < 2**18
    acks = acknowledged(done.stdout)
    assert len(acks) >= 4
    found = stored(kept)
    for section, max_seq in acks.items():
        assert found[section] >= max_seq
    with closing(LmdbEngine(kept, IDENTITY)) as engine:
        replica = Replica(engine, now_ns=0)
        assert replica.raise_max(0xA, [(0, 1, 10**9)]) == {}
        engine.commit(replica.take_staged())
        replica.committed()
    assert stored(kept)[0] == 10**9
