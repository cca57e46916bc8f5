"""The processes of a description on loopback: one address per host, the ports as they are told."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deployed.described import CERTS, Described, Probe, substituted
from etcd_servers import Certificates, etcd_binary
from processes import ROOT, environment

READY_S = 90.0
SERVING = health_pb2.HealthCheckResponse.SERVING
SMALL = {"SEQSVR_SECTION_SIZE": "1000", "SEQSVR_UID_LIMIT": "30000", "SEQSVR_MAP_SIZE_GB": "1"}
"""What no description says, so that a cluster is up at once."""


class Standing:
    """Starts and stops what is described, with certificates of its own."""

    def __init__(self, folder: Path, described: Sequence[Described]) -> None:
        self._folder = folder
        net = f"127.{random.randrange(16, 240)}.{random.randrange(1, 250)}"
        self.own = {one.name: f"{net}.{index + 1}" for index, one in enumerate(described)}
        self._addresses = {host: self.own[one.name] for one in described for host in one.hosts}
        self._known: dict[str, str] = {}
        self.certificates = Certificates(folder / "certs", list(self.own.values()))
        # In Kubernetes etcd may have an authority of its own.
        (folder / "certs" / "etcd-ca.crt").write_bytes(self.certificates.ca.read_bytes())
        self._running: dict[str, tuple[Described, subprocess.Popen[bytes]]] = {}

    def know(self, host: str, address: str) -> None:
        """Of somebody who is there already."""
        self._known[host] = address

    def text(self, text: str, of: Described | None = None) -> str:
        """With the addresses and directories that stand for those described."""
        folder, own = self._folder / (of.name if of else ""), self.own[of.name] if of else ""
        text = substituted(text, own, self._addresses, str(folder))
        text = text.replace(CERTS, str(self.certificates.folder))
        for host, address in self._known.items():
            text = text.replace(host, address)
        return text

    def start(self, *described: Described) -> None:
        """Start them, and wait until each serves as its description would find out."""
        waits = [(one, self._spawn(one)) for one in described]
        for one, told in waits:
            self._wait(one, told)

    def run(self, one: Described) -> "subprocess.CompletedProcess[str]":
        """One that ends by itself, to its end."""
        return subprocess.run(
            self._command(one), env=self._environ(one), cwd=ROOT, capture_output=True, text=True
        )

    def serving(self, one: Described, probe: Probe) -> bool:
        """What a health check would find."""
        held = self.certificates.folder
        name = "etcd" if one.program == "etcd" else "operator"
        files = (held / file for file in ("ca.crt", f"{name}.key", f"{name}.crt"))
        shown = grpc.ssl_channel_credentials(*(file.read_bytes() for file in files))
        with grpc.secure_channel(f"{self.own[one.name]}:{probe.port}", shown) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            try:
                request = health_pb2.HealthCheckRequest(service=probe.service)
                return bool(stub.Check(request, timeout=2).status == SERVING)
            except grpc.RpcError:
                return False

    def stop(self, *described: Described) -> None:
        """As the description says; each has to end well, and before it would be killed."""
        for one in described:
            self._running[one.name][1].send_signal(getattr(signal, one.stop_signal))
        began_s = time.monotonic()
        for one in described:
            left_s = one.stop_s - one.before_stop_s - (time.monotonic() - began_s)
            try:
                code = self._running.pop(one.name)[1].wait(left_s)
            except subprocess.TimeoutExpired:
                raise AssertionError(
                    f"{one.name} would have been killed: {self.log(one)}"
                ) from None
            assert code == 0, f"{one.name} left with {code}: {self.log(one)}"

    def close(self) -> None:
        for _, process in self._running.values():
            process.kill()
            process.wait()

    def log(self, one: Described) -> str:
        return (self._folder / one.name / "log").read_text()[-3000:]

    def _spawn(self, one: Described) -> socket.socket | None:
        folder = self._folder / one.name
        (folder / "etc").mkdir(parents=True)
        (folder / "seqsvr").mkdir(mode=0o700)
        told = None
        environ = self._environ(one)
        if one.notifies:
            told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            environ["NOTIFY_SOCKET"] = f"@seqsvr-{os.getpid()}-{self.own[one.name]}"
            told.bind("\0" + environ["NOTIFY_SOCKET"][1:])
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                self._command(one),
                env=environ,
                cwd=ROOT,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C on the test run is not meant for it
            )
        self._running[one.name] = one, process
        return told

    def _command(self, one: Described) -> list[str]:
        argv = [self.text(arg, one) for arg in one.argv]
        for path, content in one.files.items():
            here = self._folder / one.name / "etc" / Path(path).name
            here.write_text(self.text(content, one))
            argv = [str(here) if arg == path else arg for arg in argv]
        if one.program == "etcd":
            return [etcd_binary(), *argv]
        return [sys.executable, "-m", one.program, *argv]

    def _environ(self, one: Described) -> dict[str, str]:
        given = {name: self.text(value, one) for name, value in one.environ.items()}
        return {**environment(), **SMALL, **given}

    def _wait(self, one: Described, told: socket.socket | None) -> None:
        process = self._running[one.name][1]
        deadline_s = time.monotonic() + READY_S
        probes = list(one.probes)
        while probes:
            assert process.poll() is None, f"{one.name}: {self.log(one)}"
            assert time.monotonic() < deadline_s, f"{one.name} does not serve: {self.log(one)}"
            probes = [probe for probe in probes if not self.serving(one, probe)]
            time.sleep(0.05)
        if told is not None:
            told.settimeout(READY_S)
            assert told.recv(100) == b"READY=1"
            told.close()
