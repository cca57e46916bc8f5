"""Connections that mean harm, all kinds of them at once: honest callers are served all the same.

With TLS, since handshakes that stop are among them; who floods has a certificate, too. The long
form, with 10,000 connections each, is `python -m hostile.figures`.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hostile.attacks import ATTACKS
from hostile.figures import MB, Honest, Shown, attacker_says, start_attack
from processes import Service, Services
from seqctl import certs_folder

CONNECTIONS = 60
SECONDS = 2.5
ROOM_MB = 48


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    made = Services(tmp_path)
    yield made
    made.close()
    assert not made.traces()


def attack(service: Service, shown: Shown) -> dict[str, dict[str, int]]:
    """All attacks at once, to their end: what each of them came to."""
    started = {}
    for name, of in ATTACKS.items():
        many = CONNECTIONS // (6 if of.few else 1)
        more = ("--per-s", "2000", *shown.of_hostile())
        started[name] = start_attack(service.address, name, many, SECONDS, *more)
    with ThreadPoolExecutor(len(started)) as pool:
        return dict(zip(started, pool.map(attacker_says, started.values()), strict=True))


def test_whoever_means_harm_stops_nobody_else_and_leaves_nothing_behind(
    services: Services, tmp_path: Path
) -> None:
    shown = Shown(tmp_path / "certs")
    certs_folder.init(shown.folder)
    service = services(options=shown.of_service()).start()
    with Honest(service.address, shown.of_honest()) as honest:
        before = service.descriptors()
        first = attack(service, shown)
        after_one = service.rss_bytes()
        second = attack(service, shown)
    assert not honest.failed and len(honest.times_s[0]) > 20
    for name, figures in (*first.items(), *second.items()):
        assert figures["opened"] > 0, f"{name} never got in: nothing was tried"
        assert figures["frames"] > 0 or ATTACKS[name].more is None, f"{name} sent nothing"
    assert service.rss_bytes() < after_one + ROOM_MB * MB, "each round would take as much again"
    deadline_s = time.monotonic() + 30
    while service.descriptors() > before + 2:  # the honest one's has gone, too
        assert time.monotonic() < deadline_s, f"{service.descriptors()} descriptors, once {before}"
        time.sleep(0.1)
    assert service.terminate() == 0
