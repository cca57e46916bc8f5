"""The trace of a real message service, by the command that operators have for it."""

import json
from typing import Any

import pytest

from processes import TRACE, Service, Services, seqctl

FIGURES = {"messages": 59_835, "numbers": 119_670, "violations": 0}


@pytest.fixture(autouse=True)
def trace_is_there() -> None:
    assert TRACE.is_file(), f"the trace is missing: put college_messages.txt.gz into {TRACE.parent}"


def replay(service: Service, spread: int) -> dict[str, Any]:
    done = seqctl(
        *("replay", TRACE, "--spread", spread, "--clients", 64),
        *("-o", "json", "--addr", service.address),
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    summary: dict[str, Any] = json.loads(done.stdout)
    print(f"spread {spread}: {summary}")
    assert {name: summary[name] for name in FIGURES} == FIGURES
    assert summary["per_second"] > 0
    return summary


def test_a_real_trace_over_many_sections_keeps_every_promise(services: Services) -> None:
    service = services(uid_limit=None).start()
    first = replay(service, 100_003)
    assert first["sections"] == 1_899
    assert first["jumps"] == 0
    service.restart()
    assert replay(service, 100_003)["jumps"] == 0
    service.kill()
    service.start()
    assert replay(service, 100_003)["jumps"] > 0


def test_a_real_trace_in_one_section_keeps_every_promise(services: Services) -> None:
    service = services().start()
    first = replay(service, 1)
    assert first["sections"] == 1
    assert first["jumps"] == 0
    service.restart()
    assert replay(service, 1)["jumps"] == 0
    service.kill()
    service.start()
    assert replay(service, 1)["jumps"] > 0
