"""`storesvr` as a program: its options, its file, its ports, its end."""

import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from processes import ROOT, environment
from seqsvr.v1 import store_pb2 as pb
from seqsvr.v1 import store_pb2_grpc


def command(*more: str) -> list[str]:
    return [sys.executable, "-m", "storesvr", *more]


@contextmanager
def running(
    *more: str, environ: dict[str, str] | None = None
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A StoreSvr process and its address."""
    process = subprocess.Popen(
        command(*more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**environment(), **(environ or {})},
    )
    try:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        ready = re.fullmatch(r"ready (127\.0\.0\.1:\d+)\n", line)
        assert ready is not None, line + process.stderr.read()
        yield process, ready[1]
    finally:
        process.kill()
        process.communicate()


def refused(*more: str, environ: dict[str, str] | None = None) -> tuple[int, str]:
    """Code and only line of a start that fails."""
    done = subprocess.run(
        command(*more),
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**environment(), **(environ or {})},
    )
    lines = done.stderr.splitlines()
    assert (done.stdout, len(lines)) == ("", 1), done.stderr
    assert lines[0].startswith("storesvr: ")
    return done.returncode, lines[0]


def info(address: str) -> Any:
    with grpc.insecure_channel(address) as channel:
        stub: Any = store_pb2_grpc.StoreStub(channel)  # type: ignore[no-untyped-call]
        return stub.Info(pb.InfoRequest(), timeout=20)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A file that says everything a StoreSvr needs."""
    path = tmp_path / "storesvr.toml"
    path.write_text(
        f"""
        data = "{tmp_path / "store"}"
        listen = "127.0.0.1:0"
        cluster = "from-file"
        set = "set-7"
        replica = "store-3"
        section_size = 1000
        uid-limit = 50_000
        lease-ttl-s = 1
        map-size-gb = 0.25
        metrics = "127.0.0.1:0"
        create = true
        """
    )
    return path


def test_a_file_says_everything_and_flags_and_environment_outdo_it(config: Path) -> None:
    variables = {"SEQSVR_CLUSTER": "from-environment", "SEQSVR_SET": "set-8"}
    flags = ("--config", str(config), "--set", "set-9")
    with running(*flags, environ=variables) as (process, address):
        found = info(address)
        assert (found.cluster, found.set, found.replica) == ("from-environment", "set-9", "store-3")
        assert (found.section_size, found.uid_limit) == (1000, 50_000)
        assert process.stderr is not None
        metrics = re.search(r"metrics=(127\.0\.0\.1:\d+)", process.stderr.readline())
        assert metrics is not None
        with urllib.request.urlopen(f"http://{metrics[1]}/metrics", timeout=20) as page:
            assert b"seqsvr_store_records" in page.read()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("data = 'd'\ncluster = 'c'\nlease-ttl-s = 0", "0.1..60"),
        ("section-size = 'many'", "must be an integer, not a string"),
        ("etcd = 'a:1'", "unknown option 'etcd'"),
        ("listen = ", "not TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(config: Path, text: str, says: str) -> None:
    config.write_text(text)
    code, line = refused("--config", str(config))
    assert code == 2 and str(config) in line and says in line


def test_wrong_usage_from_the_environment_is_refused_with_its_name(config: Path) -> None:
    code, line = refused("--config", str(config), environ={"SEQSVR_UID_LIMIT": "0"})
    assert code == 2 and "SEQSVR_UID_LIMIT" in line


@pytest.mark.parametrize("which", ["listen", "metrics"])
def test_the_second_on_a_port_refuses_with_one_line_and_makes_nothing(
    config: Path, tmp_path: Path, which: str
) -> None:
    with running("--config", str(config)) as (_, address):
        other = tmp_path / "other"
        code, line = refused("--config", str(config), "--data", str(other), f"--{which}", address)
        assert code == 3 and address in line and "Address already in use" in line
        if which == "listen":
            assert not other.exists()
        assert info(address).cluster == "from-file"


def test_what_the_store_refuses_is_one_line(config: Path, tmp_path: Path) -> None:
    with running("--config", str(config)) as (process, _):
        code, line = refused("--config", str(config))
        assert code == 3 and f"process {process.pid}" in line
    code, line = refused("--config", str(config), "--cluster", "another")
    assert code == 3 and "Foreign" in line and "another" in line
    (tmp_path / "file").write_text("")
    code, line = refused("--config", str(config), "--data", str(tmp_path / "file"))
    assert code == 3 and str(tmp_path / "file") in line


def test_it_is_not_ready_for_traffic_once_it_is_to_stop(config: Path) -> None:
    with (
        running("--config", str(config)) as (process, address),
        grpc.insecure_channel(address) as channel,
    ):
        health: Any = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="seqsvr.ready")
        watched = health.Watch(request, timeout=60)
        assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
        process.send_signal(signal.SIGTERM)
        assert next(watched).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert process.wait(30) == 0


@pytest.mark.parametrize("argv", [["--help"], ["--version"]])
def test_help_and_version_need_nothing(argv: Sequence[str]) -> None:
    done = subprocess.run(command(*argv), capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert argv == ["--version"] or "SEQSVR_MAP_SIZE_GB" in done.stdout
