"""`seqctl up` refuses what it could never serve: one line, and nothing is touched."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from allocsvr.node import MAX_TTL_S, MIN_TTL_S, Options
from allocsvr.section import MAX_STEP
from processes import Service, Services
from processes.calls import plain


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    made = Services(tmp_path)
    try:
        yield made
    finally:
        made.close()
    assert not made.traces()


def refused(service: Service, code: int) -> str:
    """Start a service that must not serve: its only line on standard error."""
    service.spawn()
    assert service.wait() == code, service.stderr()
    assert service.stdout() == ""
    lines = service.stderr().splitlines()
    assert len(lines) == 1, service.stderr()
    return lines[0]


def founded(data: Path) -> set[str]:
    """What a data directory holds of seqsvr; a LOCK fixes nothing for good."""
    names = {path.name for path in data.iterdir()} if data.exists() else set()
    return names - {"LOCK"}


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--lease-ttl-s", "60.5"], 2, "--lease-ttl-s"),
        (["--lease-ttl-s", "0.05"], 2, "--lease-ttl-s"),
        (["--step", str(MAX_STEP + 1)], 2, "step"),
        (["--section-size", str(2**32 + 1)], 2, "--section-size"),
        (["--section-size", "1"], 2, "sections"),
        (["--uid-limit", str(2**63 - 1)], 2, "sections"),
    ],
    ids=str,
)
def test_an_option_out_of_its_bounds_is_refused_and_founds_nothing(
    services: Services, options: Sequence[str], code: int, says: str
) -> None:
    service = services(uid_limit=None, options=options)
    assert says in refused(service, code)
    assert founded(service.data) == set()


@pytest.mark.parametrize("port", ["99999", "http"])
def test_a_metrics_port_that_is_none_is_refused_and_founds_nothing(
    services: Services, port: str
) -> None:
    service = services(options=["--metrics", f"127.0.0.1:{port}"])
    assert port in refused(service, 2)
    assert founded(service.data) == set()


def test_a_refused_option_leaves_what_was_there_as_it_was(services: Services) -> None:
    service = services().start()
    with plain(service.address) as calls:
        assert calls.next(7, 25) == 1
    assert service.terminate() == 0

    def content() -> dict[Path, bytes]:
        files = (path for path in service.data.rglob("*") if path.is_file())
        return {path: path.read_bytes() for path in files if path.name != "LOCK"}

    before = content()
    for options in (["--lease-ttl-s", "61"], ["--step", str(2**62)], ["--section-size", "1"]):
        refused(services(data=service.data, options=options), 2)
    assert content() == before
    service.start()
    with plain(service.address) as calls:
        assert calls.next(7) == 26


def test_a_store_with_a_flipped_bit_in_a_record_is_refused_as_damaged_nrw_2(
    services: Services,
) -> None:
    service = services().start()
    with plain(service.address) as calls:
        assert calls.next(7) == 1
    assert service.terminate() == 0
    file = service.data / "store" / "data.mdb"
    whole = file.read_bytes()
    content = bytearray(whole)
    places = [at for at in range(len(content)) if content.startswith(b"SQRC", at)]
    assert places
    for place in places:  # LMDB keeps old pages beside the one that counts
        content[place + 20] ^= 1
    file.write_bytes(content)
    before = (service.data / "map.json").read_bytes()
    for _ in range(2):
        service.spawn()
        assert service.wait() == 3, service.stderr()
        assert service.stdout() == ""
        *alarm, line = service.stderr().splitlines()
        assert line.startswith("seqctl up: ") and "damaged" in line
        assert str(service.data / "store") in line
        assert len(alarm) <= 1 and all(" CRITICAL storesvr." in said for said in alarm), alarm
    assert (service.data / "map.json").read_bytes() == before, "epochs were spent on it"
    file.write_bytes(whole)
    service.start()
    with plain(service.address) as calls:
        assert calls.next(7) == 2


@pytest.mark.parametrize("ttl_s", [MIN_TTL_S / 1.001, MAX_TTL_S * 1.001, 0.0, float("nan")])
def test_a_lease_time_that_no_replica_would_grant_is_no_option_of_a_node(ttl_s: float) -> None:
    with pytest.raises(ValueError, match="lease_ttl_s"):
        Options(lease_ttl_s=ttl_s)


@pytest.mark.parametrize("step", [0, -1, MAX_STEP + 1, 2**63 - 1])
def test_a_step_that_would_use_the_numbers_up_is_no_option_of_a_node(step: int) -> None:
    with pytest.raises(ValueError, match="step"):
        Options(step=step)


def test_the_bounds_themselves_are_options_of_a_node() -> None:
    assert Options(step=MAX_STEP, lease_ttl_s=MAX_TTL_S).step == MAX_STEP
    assert Options(step=1, lease_ttl_s=MIN_TTL_S).step == 1
