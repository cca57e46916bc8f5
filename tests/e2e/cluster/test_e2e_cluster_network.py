"""The network of the cluster tests: a cut that does not cut would make every test of it a lie."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from real_cluster.asked import Asked
from real_cluster.network import Host, Network

# Sends a datagram to wherever it is asked to, and says how many it got so far.
DATAGRAMS = """
import json, socket, sys
own = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
own.bind((sys.argv[1], 7000))
own.setblocking(False)
got = 0
for line in sys.stdin:
    for target in json.loads(line)["to"]:
        own.sendto(b"x", (target, 7000))
    try:
        while own.recv(10):
            got += 1
    except BlockingIOError:
        pass
    print(json.dumps(got), flush=True)
"""


class Station:
    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        command = [sys.executable, "-c", DATAGRAMS, host.ip]
        self.child = Asked(host, command, folder / f"{host.name}.err")

    def got(self) -> int:
        return int(self.child.ask(to=[]))

    def reaches(self, other: "Station") -> bool:
        """Whether a datagram arrives; what was cut is given a little time to do so all the same."""
        before, deadline_s = other.got(), time.monotonic() + 0.3
        while time.monotonic() < deadline_s:
            self.child.ask(to=[other.host.ip])
            time.sleep(0.01)
            if other.got() > before:
                return True
        return False


@pytest.fixture
def network() -> Iterator[Network]:
    made = Network()
    try:
        yield made
    finally:
        made.close()


def test_a_cut_drops_one_direction_between_two_hosts_and_nothing_else(
    network: Network, tmp_path: Path
) -> None:
    with ExitStack() as ending:
        one, two, three = stations = [
            Station(network.host(name), tmp_path) for name in ("one", "two", "three")
        ]
        for station in stations:
            ending.callback(station.child.close)
        pairs = [(a, b) for a in stations for b in stations if a is not b]
        assert all(a.reaches(b) for a, b in pairs)
        network.cut(one.host, two.host)
        network.cut(one.host, two.host)  # once more changes nothing
        assert [pair for pair in pairs if not pair[0].reaches(pair[1])] == [(one, two)]
        network.cut_both(two.host, three.host)
        cut = [pair for pair in pairs if not pair[0].reaches(pair[1])]
        assert cut == [(one, two), (two, three), (three, two)]
        network.mend()
        assert all(a.reaches(b) for a, b in pairs)


def test_networks_side_by_side_do_not_meet(network: Network, tmp_path: Path) -> None:
    other = Network()
    with ExitStack() as ending:
        ending.callback(other.close)
        here, there = (Station(n.host("same"), tmp_path) for n in (network, other))
        ending.callback(here.child.close)
        ending.callback(there.child.close)
        neighbour = Station(network.host("neighbour"), tmp_path)
        ending.callback(neighbour.child.close)
        assert here.host.ip == there.host.ip
        assert neighbour.reaches(here)
        assert there.got() == 0
