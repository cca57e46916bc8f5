"""What deploy/ describes, run on loopback: it serves, and stops as and when it is told to."""

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

import seqsvr
from deployed import Described, Probe, Standing, compose, kubernetes, systemd
from deployed.described import of_program
from deployed.tools import DEPLOY
from etcd_servers import EtcdServers
from processes import seqctl

WAIT_S = 60.0


class Stand:
    """Whatever a test stands up, and takes down."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: list[Standing] = []
        self._etcd: EtcdServers | None = None

    def alone(self, described: Sequence[Described]) -> Standing:
        self._made.append(Standing(self._folder / "standing", described))
        return self._made[-1]

    def beside_etcd(
        self, described: Sequence[Described], endpoints: str
    ) -> tuple[Standing, EtcdServers]:
        """For descriptions that leave etcd to others, and call it `endpoints`."""
        standing = self.alone(described)
        folder, shown = self._folder / "etcd", standing.certificates
        self._etcd = EtcdServers(folder, fsync=False, certificates=shown).start()
        standing.know(endpoints, ",".join(self._etcd.endpoints))
        return standing, self._etcd

    def close(self) -> None:
        for one in self._made:
            one.close()
        if self._etcd is not None:
            self._etcd.close()


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    made = Stand(tmp_path)
    yield made
    made.close()


def test_the_units_of_systemd_serve_and_stop_as_they_say(stand: Stand) -> None:
    described = systemd.described()
    endpoints = described[-1].environ["SEQSVR_ETCD"]
    standing, _ = stand.beside_etcd(described, endpoints)
    serves_and_stops(standing, described, endpoints, init_of_readme())


def test_the_compose_file_serves_and_stops_as_it_says(stand: Stand) -> None:
    described = compose.described()
    standing = stand.alone(described)
    standing.start(*of_program(described, "etcd"))
    (init,) = (one for one in of_program(described, "seqctl") if one.name == "init")
    serves_and_stops(standing, described, init.environ["SEQSVR_ETCD"], init.argv)


def test_the_manifests_serve_and_stop_as_they_say_and_outlive_etcd(stand: Stand) -> None:
    described = kubernetes.described("first-start")
    (init,) = of_program(described, "seqctl")
    endpoints = init.environ["SEQSVR_ETCD"]
    standing, etcd = stand.beside_etcd(described, endpoints)

    def without_etcd() -> None:
        etcd.kill()
        arbiters = of_program(described, "arbitersvr")
        until(
            lambda: not any(standing.serving(one, ready(one)) for one in arbiters),
            "arbiters say that they are of no use",
        )
        rest = [one for one in described if one.program in ("storesvr", "allocsvr")]
        for one in (*rest, *arbiters):
            assert standing.serving(one, alive(one)), f"{one.name} would have been killed"
        for one in rest:
            assert standing.serving(one, ready(one)), f"{one.name} would have lost its traffic"
        etcd.start()

    serves_and_stops(standing, described, endpoints, init.argv, without_etcd)


def serves_and_stops(
    standing: Standing,
    described: Sequence[Described],
    endpoints: str,
    init: Sequence[str],
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Started in the order of deploy/README.md, used, and stopped in the order that it says."""
    stores, arbiters, nodes = (
        of_program(described, name) for name in ("storesvr", "arbitersvr", "allocsvr")
    )
    of_etcd, us, callers = (shown(standing, name) for name in ("etcd", "operator", "allocator"))
    map_of = ("--etcd", standing.text(endpoints), *options("etcd-", of_etcd), *options("", us))
    made_by_hand = [with_create(one) for one in stores]
    standing.start(*made_by_hand)
    done = seqctl(*(standing.text(argument) for argument in init), *map_of)
    assert done.returncode == 0, done.stderr
    standing.start(*arbiters, *nodes)
    until(lambda: serving_sections(map_of) == 30, "all sections are served")
    addresses = [f"{standing.own[node.name]}:7420" for node in nodes]
    with seqsvr.Client(addresses, tls=seqsvr.Tls(*callers)) as client:
        taken = [client.next(uid, timeout=20) for uid in (7, 7, 29_999)]
        assert taken == [1, 2, 1], "through the addresses that the nodes advertise"
        meanwhile()
        assert client.next(7, timeout=20) == 3
    for group in (nodes, arbiters, stores):
        standing.stop(*group)


def shown(standing: Standing, name: str) -> list[str]:
    """What `name` shows and trusts: authority, certificate, key."""
    folder = standing.certificates.folder
    return [str(folder / file) for file in ("ca.crt", f"{name}.crt", f"{name}.key")]


def options(prefix: str, files: Sequence[str]) -> list[str]:
    flags = (f"--{prefix}{name}" for name in ("ca", "cert", "key"))
    return [part for pair in zip(flags, files, strict=True) for part in pair]


def with_create(one: Described) -> Described:
    """As at the first start, however the description has that."""
    told = "--create" in one.argv
    return (
        one
        if told
        else Described(**{**vars(one), "environ": {**one.environ, "SEQSVR_CREATE": "1"}})
    )


def init_of_readme() -> list[str]:
    found = re.search(r"seqctl (cluster init --set \S+)\n", (DEPLOY / "README.md").read_text())
    assert found is not None
    return found[1].split()


def serving_sections(map_of: Sequence[str]) -> int:
    done = seqctl("cluster", "status", *map_of, "-o", "json")
    return sum(one["reported"]["serving"] for one in json.loads(done.stdout)["sets"])


def alive(one: Described) -> Probe:
    return next(probe for probe in one.probes if probe.alive)


def ready(one: Described) -> Probe:
    return next(probe for probe in one.probes if probe.service == "seqsvr.ready")


def until(holds: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline_s, f"not within {WAIT_S} s: {what}"
        time.sleep(0.1)
