"""A cluster with certificates on every link, etcd's own among them, all renewed under load.

As `make cluster TLS=1` runs it, under the first third of the trace. The long form, with the whole
trace over and over:
    SEQSVR_TEST_ROTATIONS=50 python -m pytest tests/e2e/test_e2e_tls.py
"""

import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from processes import ROOT, TRACE, environment, free_base, seqctl

PROGRAM = ROOT / "examples" / "local-cluster" / "cluster.py"
LONG = "SEQSVR_TEST_ROTATIONS"
ROTATIONS = int(os.environ.get(LONG, "3"))
MESSAGES = 59_835 if LONG in os.environ else 20_000
UID_LIMIT = 200_000_000
BETWEEN_S = 3.0
"""From one rotation to the next: long enough for everybody to have read the files."""
START_S, STOP_S = 150.0, 120.0
NODES, STORES, ARBITERS, ETCDS = range(3), range(10, 13), range(20, 22), range(30, 33)
ETCD_PEERS = range(40, 43)


class Secured:
    """The local cluster over TLS, and seqctl as somebody with a role."""

    def __init__(self, folder: Path) -> None:
        self.certs, self.logs = folder / "data" / "certs", folder / "data" / "log"
        self._base = free_base(*NODES, *STORES, *ARBITERS, *ETCDS, *ETCD_PEERS)
        self.seeds, self.etcd = self._addresses(NODES), self._addresses(ETCDS)
        self._log = folder / "err"
        command = [sys.executable, str(PROGRAM), "--data", str(folder / "data"), "--tls"]
        command += ["--base-port", str(self._base), "--uid-limit", str(UID_LIMIT)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment(),
                start_new_session=True,
            )

    def ready(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == f"ready {self.seeds}\n".encode(), self.err()

    def err(self) -> str:
        return self._log.read_text()

    def stop(self) -> int:
        self._process.terminate()
        return self._process.wait(STOP_S)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def to_nodes(self, role: str) -> list[str]:
        """Options of seqctl as `role`."""
        return ["--addr", self.seeds, *self._three("--", role)]

    def to_map(self) -> list[str]:
        return ["--etcd", self.etcd, *self._three("--etcd-", "etcd")]

    def show(self, offset: int) -> str:
        """The certificate that the port at `offset` shows to an operator, in PEM."""
        context = ssl.create_default_context(cafile=self.certs / "ca.crt")
        context.load_cert_chain(self.certs / "operator.crt", self.certs / "operator.key")
        plain = self.connected(offset)
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as secured:
            return ssl.DER_cert_to_PEM_cert(secured.getpeercert(binary_form=True) or b"")

    def connected(self, offset: int) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self._base + offset), timeout=20)

    def _three(self, prefix: str, name: str) -> list[str]:
        file, ca = self.certs / name, self.certs / "ca.crt"
        return [
            f"{prefix}ca",
            str(ca),
            f"{prefix}cert",
            f"{file}.crt",
            f"{prefix}key",
            f"{file}.key",
        ]

    def _addresses(self, offsets: range) -> str:
        return ",".join(f"127.0.0.1:{self._base + offset}" for offset in offsets)


@pytest.fixture
def secured(tmp_path: Path) -> Iterator[Secured]:
    made = Secured(tmp_path)
    try:
        made.ready()
        yield made
    finally:
        made.close()


def test_the_replay_meets_no_failure_while_all_certificates_are_renewed_under_it(
    secured: Secured, tmp_path: Path
) -> None:
    history = tmp_path / "history"
    command = ["replay", TRACE, "--spread", 100_003, "--clients", 8, "--limit", MESSAGES]
    command += ["--history", history, "-o", "json", *secured.to_nodes("allocator")]
    replay, done, rounds, rotated_s = spawned(command), 0, 0, time.monotonic()
    while done < ROTATIONS or replay.poll() is None:
        if replay.poll() is not None:
            rounds += flawless(replay)
            replay = spawned(command)
        if done < ROTATIONS and time.monotonic() > rotated_s + BETWEEN_S:
            renewed = seqctl("certs", "init", secured.certs)
            assert renewed.returncode == 0, renewed.stderr
            done, rotated_s = done + 1, time.monotonic()
        time.sleep(0.05)
    rounds += flawless(replay)
    time.sleep(max(0.0, rotated_s + BETWEEN_S - time.monotonic()))
    print(f"{done} rotations under {rounds} replays")
    checked = seqctl("check", history)
    assert checked.returncode == 0 and ", 0 failed calls" in checked.stdout, checked.stdout
    everybody_shows_what_is_in_the_files(secured)
    strangers_are_no_lines_in_the_log(secured)
    status = seqctl("cluster", "status", *secured.to_map(), *secured.to_nodes("operator")[2:])
    assert status.returncode == 0, status.stdout + status.stderr
    assert secured.stop() == 0, secured.err()


def spawned(command: list[object]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "seqctl", *map(str, command)],
        env=environment(),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def flawless(replay: "subprocess.Popen[str]") -> int:
    out, err = replay.communicate(timeout=300)
    assert replay.returncode == 0, out + err
    summary = json.loads(out)
    wanted = {"messages": MESSAGES, "numbers": 2 * MESSAGES, "violations": 0, "failed": 0}
    assert {name: summary[name] for name in wanted} == wanted
    return 1


def strangers_are_no_lines_in_the_log(secured: Secured) -> None:
    """Neither those who hang up nor those who speak no TLS."""
    ours = [log for kind in ("alloc", "store", "arbiter") for log in secured.logs.glob(f"{kind}-*")]
    before = [log.read_bytes().count(b"andshake") for log in ours]
    for offset in (*NODES, *STORES, *ARBITERS):
        for said in (b"", b"GET / HTTP/1.1\r\n\r\n"):
            with secured.connected(offset) as stranger:
                stranger.sendall(said)
    time.sleep(1)
    assert len(ours) == 8 and [log.read_bytes().count(b"andshake") for log in ours] == before


def everybody_shows_what_is_in_the_files(secured: Secured) -> None:
    pem = {name: (secured.certs / f"{name}.crt").read_text() for name in ("server", "peer", "etcd")}
    shown = {
        offset: secured.show(offset).strip() in pem[name]
        for name, offsets in (
            ("server", [*NODES]),
            ("peer", [*STORES, *ARBITERS]),
            ("etcd", [*ETCDS, *ETCD_PEERS]),
        )
        for offset in offsets
    }
    assert all(shown.values()), shown
