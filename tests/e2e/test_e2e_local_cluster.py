"""examples/local-cluster as somebody who tries the service runs it."""

import importlib.util
import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from processes import ROOT, environment, free_base, seqctl

PROGRAM = ROOT / "examples" / "local-cluster" / "cluster.py"
READY_S = 150.0
STOP_S = 120.0
PORTS = (*range(3), *range(10, 13), *range(20, 22), *range(30, 33), *range(40, 43))


class Local:
    """The program over one data directory, run after run."""

    def __init__(self, folder: Path) -> None:
        self.data = folder / "data"
        self.base = free_base(*PORTS)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def seeds(self) -> str:
        return ",".join(f"127.0.0.1:{self.base + i}" for i in range(3))

    @property
    def etcd(self) -> str:
        return ",".join(f"127.0.0.1:{self.base + 30 + i}" for i in range(3))

    def spawn(self, *options: str) -> None:
        command = [sys.executable, str(PROGRAM), "--data", str(self.data)]
        command += ["--base-port", str(self.base), "--section-size", "1000"]
        command += ["--uid-limit", "30000", *options]
        with (self._folder / "out").open("wb") as out, (self._folder / "err").open("wb") as err:
            self._process = subprocess.Popen(
                command, stdout=out, stderr=err, env=environment(), start_new_session=True
            )

    def start(self, *options: str) -> None:
        """Start it, and wait for its one line."""
        self.spawn(*options)
        until(lambda: self.out().endswith("\n") or self.process.poll() is not None, self.err)
        assert self.process.poll() is None, self.err()
        assert self.out() == f"ready {self.seeds}\n"

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        return self.process.wait(STOP_S)

    def close(self) -> None:
        """Its children end with it, however it ends."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None
        return self._process

    def out(self) -> str:
        return (self._folder / "out").read_text()

    def err(self) -> str:
        return (self._folder / "err").read_text()

    def next(self, uid: int) -> int:
        done = seqctl("next", uid, "--addr", self.seeds, "--timeout", "20", "-o", "json")
        assert done.returncode == 0, done.stderr
        return int(json.loads(done.stdout)["seq"])

    def status(self) -> Any:
        done = seqctl("cluster", "status", "--etcd", self.etcd, "-o", "json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def ports_in_use(self) -> list[int]:
        return [port for port in (self.base + offset for offset in PORTS) if answers(port)]


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Local]:
    made = Local(tmp_path)
    yield made
    made.close()


def test_one_command_starts_a_cluster_and_the_next_start_goes_on(
    local: Local, tmp_path: Path
) -> None:
    local.start()
    until(lambda: is_whole(local.status()), lambda: json.dumps(local.status()))
    assert [local.next(uid) for uid in (7, 7, 29_999)] == [1, 2, 1]
    assert local.stop() == 0, local.err()
    assert local.ports_in_use() == [], "it left something behind"

    local.start("--kill-every", "2")
    assert "the map says so already" in local.err()
    assert local.next(7) == 3, "a graceful stop leaves no gap"
    trace, history = tmp_path / "trace", tmp_path / "history"
    pairs = ((random.randrange(30_000), random.randrange(30_000)) for _ in range(2_000))
    trace.write_text("".join(f"{one} {other} 1\n" for one, other in pairs))
    options = ("--addr", local.seeds, "--history", history, "--timeout", "30")
    started_s = time.monotonic()
    while "kill -9" not in local.err() or time.monotonic() < started_s + 5:
        done = seqctl("replay", trace, *options, timeout_s=300)
        assert done.returncode == 0, done.stdout + done.stderr
    assert seqctl("check", history).returncode == 0
    assert "has ended with -9, starts again" in local.err()
    assert local.stop() == 0, local.err()
    assert local.ports_in_use() == [], "it left something behind"


def is_whole(status: Any) -> bool:
    """All serves, and each node has its share: being ready promises neither."""
    return bool(
        status["well"]
        and [one["reported"]["serving"] for one in status["sets"]] == [30]
        and [one["alive"] and one["sections"] > 0 for one in status["nodes"]] == [True] * 3
    )


def test_no_child_outlives_it(local: Local) -> None:
    local.spawn()
    etcds = {local.base + offset for offset in (30, 31, 32)}
    until(lambda: etcds <= set(local.ports_in_use()), local.err)
    local.close()
    until(lambda: not local.ports_in_use(), lambda: str(local.ports_in_use()))


def test_a_port_that_is_taken_is_one_clear_line(local: Local) -> None:
    with socket.create_server(("127.0.0.1", local.base + 11)):
        local.spawn()
        assert local.wait() == 3
    assert f"local-cluster: port {local.base + 11} is taken" in local.err().splitlines()[-1]
    assert "Traceback" not in local.err()


def test_a_child_that_cannot_start_is_one_clear_line(local: Local) -> None:
    local.data.mkdir()
    (local.data / "store-1").write_text("no directory")
    local.spawn()
    assert local.wait() == 3
    assert local.err().splitlines()[-1].startswith("local-cluster: store-1 has ended: ")
    assert local.ports_in_use() == []


def test_a_missing_etcd_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    spec = importlib.util.spec_from_file_location("local_cluster", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(sys, "argv", ["cluster.py", "--data", str(tmp_path)])
    assert module.main() == 3
    assert "no etcd found" in capsys.readouterr().err


def until(holds: Callable[[], bool], otherwise: Callable[[], str]) -> None:
    """Wait until it holds; what `otherwise` says is why it does not."""
    deadline_s = time.monotonic() + READY_S
    while not holds():
        assert time.monotonic() < deadline_s, otherwise()
        time.sleep(0.05)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
