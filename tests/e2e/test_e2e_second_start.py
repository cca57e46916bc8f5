"""What is in use is refused with one clear line, and under -O nothing is laxer."""

import subprocess
import sys

import grpc
import pytest

from processes import ROOT, Service, Services, environment, free_port
from processes.calls import plain, reason_for

# The service, with a counter that contradicts itself for uid 13.
BROKEN = """
import sys
from allocsvr.section import Section
from seqctl.__main__ import main
from seqsvr.invariants import require

take = Section.take
def broken(self, index, count):
    require(index != 13, "uid 13 is fine")
    return take(self, index, count)
Section.take = broken
sys.exit(main(sys.argv[1:]))
"""


def refused(service: Service) -> str:
    """Start a service that cannot: its only line on standard error."""
    service.spawn()
    assert service.wait() == 3, service.stderr()
    assert service.stdout() == ""
    lines = service.stderr().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def goes_on(service: Service, uid: int = 7) -> None:
    with plain(service.address) as calls:
        assert calls.next(uid) == calls.next(uid) - 1


def test_a_second_start_on_the_same_port_is_refused(services: Services) -> None:
    first = services(port=free_port()).start()
    second = services(port=first.port)
    assert f"127.0.0.1:{first.port}" in refused(second)
    assert not second.data.exists(), "a start that is refused leaves nothing behind"
    goes_on(first)


def test_a_second_start_on_the_same_data_is_refused(services: Services) -> None:
    first = services().start()
    before = {path: path.stat().st_mtime_ns for path in first.data.rglob("*.json")}
    line = refused(services(data=first.data))
    assert str(first.data) in line
    assert str(first.pid) in line
    assert before == {path: path.stat().st_mtime_ns for path in first.data.rglob("*.json")}
    goes_on(first)
    assert first.terminate() == 0


def test_a_metrics_port_in_use_is_refused(services: Services) -> None:
    first = services(port=free_port()).start()
    line = refused(services(options=["--metrics", first.address]))
    assert first.address in line and "metrics" in line
    goes_on(first)


def test_an_address_that_is_not_ours_is_refused_with_one_line(services: Services) -> None:
    line = refused(services(options=["--insecure", "--listen", "203.0.113.1:7420"]))
    assert "203.0.113.1:7420" in line


def test_optimised_python_serves_and_refuses_just_the_same(services: Services) -> None:
    service = services(python=["-O", "-m", "seqctl"]).start()
    with plain(service.address) as calls:
        assert [calls.next(7), calls.next(7, 10), calls.next(7)] == [1, 2, 12]
        for uid, count, reason in (
            (2**32, 1, "UID_OUT_OF_RANGE"),
            (2**64 - 1, 1, "UID_OUT_OF_RANGE"),
            (7, 0, "COUNT_OUT_OF_RANGE"),
            (7, 10_001, "COUNT_OUT_OF_RANGE"),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                calls.next(uid, count)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert reason_for(caught.value) == reason
        assert calls.next(7) == 13
    service.restart()
    with plain(service.address) as calls:
        assert calls.next(7) == 14


def test_an_invariant_holds_under_optimised_python() -> None:
    program = "from seqsvr.invariants import require\nassert False\nrequire(1 > 2, 'one above two')"
    done = subprocess.run(
        [sys.executable, "-O", "-c", program],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "BrokenInvariant: one above two" in done.stderr


@pytest.mark.parametrize("flags", [(), ("-O",)])
def test_a_broken_invariant_ends_the_service(services: Services, flags: tuple[str, ...]) -> None:
    service = services(python=[*flags, "-c", BROKEN]).start()
    service.may_trace = True
    with plain(service.address) as calls:
        assert calls.next(7) == 1
        with pytest.raises(grpc.RpcError):
            calls.next(13)
    assert service.wait() == 70, service.stderr()
    assert service.stderr().count("CRITICAL") == 1
    assert "uid 13 is fine" in service.stderr()
    # The contradiction went nowhere: another start serves, above what was handed out.
    again = services(data=service.data).start()
    with plain(again.address) as calls:
        assert calls.next(7) > 1
        assert calls.next(13) > 0
