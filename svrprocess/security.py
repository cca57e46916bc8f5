"""What a program shows of itself at its ports and on its links, and what it demands of others.

Two sets of certificates, named as etcd names them: --cert-file and its kin are for callers and for
Prometheus, --peer-cert-file and its kin for what servers say to each other, on both ends of it.
Without certificates only this host may be listened to, unless --insecure is given.
"""

import argparse
import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from clustermap.logs import get_logger
from seqsvr.credentials import PLAIN, POLL_S, Credentials
from seqsvr.tls import Tls
from svrprocess.certificates import OPTIONS, Certificate, CertificateMetrics
from svrprocess.failures import WrongUsage
from svrprocess.options import Option
from svrprocess.rights import AUTH_FILE
from svrprocess.secret_files import check_secret
from svrprocess.values import PATH, SWITCH, is_loopback, split

_log = get_logger(__name__)


def _four(prefix: str, whose: str) -> tuple[Option, ...]:
    ca = f"{prefix}trusted-ca-file"
    return (
        Option(f"{prefix}cert-file", "", PATH, f"PEM file with our certificate for {whose}"),
        Option(f"{prefix}key-file", "", PATH, f"PEM file with the key of --{prefix}cert-file"),
        Option(ca, "", PATH, f"PEM file with the authorities of the certificates of {whose}"),
        Option(f"{prefix}client-cert-auth", False, SWITCH, f"demand a certificate of --{ca}"),
    )


SECURITY_OPTIONS = (
    *_four("", "callers and Prometheus"),
    *_four("peer-", "other servers"),
    AUTH_FILE,
    Option("peer-token-file", "", PATH, "file of a token of role internal, for other servers"),
    Option("insecure", False, SWITCH, "allow listening in the clear on other than loopback"),
)
"""Of every program. Files are read anew when they change."""


@dataclass(slots=True)
class Port:
    """How one listening address is protected.

    link: client, peer or metrics, in metrics and in the log; certificate: None for connections in
    the clear; insecure: these may come from other hosts; exposed: they may, and it is listening.
    """

    link: str
    certificate: Certificate | None = None
    insecure: bool = False
    exposed: bool = False

    def check(self, listen: str) -> None:
        """Raises WrongUsage where nobody must listen at HOST:PORT so, ValueError if it is none."""
        if self._exposes(listen) and not self.insecure:
            option = "--peer-cert-file" if self.link == "peer" else "--cert-file"
            raise WrongUsage(
                f"{listen} is not loopback: give {option}, or --insecure to listen in the clear"
            )

    def taken(self, address: str) -> None:
        """It listens there now: say so where others can read along."""
        if self._exposes(address):
            self.exposed = True
            _log.warning("insecure", link=self.link, listen=address)

    def _exposes(self, listen: str) -> bool:
        return self.certificate is None and not is_loopback(split(listen)[0])


@dataclass(slots=True)
class Security:
    """Of one program. links: towards other servers; etcd: towards etcd, None where it has none."""

    client: Port = field(default_factory=lambda: Port("client"))
    peer: Port = field(default_factory=lambda: Port("peer"))
    metrics: Port = field(default_factory=lambda: Port("metrics"))
    links: Credentials = PLAIN
    etcd: Credentials = PLAIN
    certificates: tuple[Certificate, ...] = ()

    def measure(self, registry: CollectorRegistry) -> None:
        """Show in `registry` when certificates end, and what listens in the clear."""
        registry.register(CertificateMetrics(self.certificates))
        registry.register(_Exposed((self.client, self.peer, self.metrics)))

    @asynccontextmanager
    async def kept_fresh(self) -> AsyncIterator[None]:
        """Certificates are looked at every second inside the `async with`, all by one task."""
        task = asyncio.create_task(self._keep())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait((task,))

    async def _keep(self) -> None:
        while self.certificates or self.links.watched or self.etcd.watched:
            await asyncio.sleep(POLL_S)
            try:
                await asyncio.to_thread(self.refresh)
            except Exception as error:  # noqa: BLE001 - else the certificates of now are the last
                _log.error("certificates_not_looked_at", error=error)

    def refresh(self) -> None:
        """Look at all files, and read what has changed."""
        for certificate in self.certificates:
            certificate.refresh()
        for credentials in (self.links, self.etcd):
            credentials.look()


class _Exposed(Collector):
    def __init__(self, ports: tuple[Port, ...]) -> None:
        self._ports = ports

    def collect(self) -> Iterator[Metric]:
        shown = GaugeMetricFamily(
            "seqsvr_insecure",
            "1: it listens in the clear at an address that is not loopback.",
            labels=["link"],
        )
        for port in self._ports:
            shown.add_metric([port.link], port.exposed)
        yield shown


def security(args: argparse.Namespace) -> Security:
    """What the options come to, files read. Raises WrongUsage, which names the option."""
    client, peer = _certificate(args, ""), _certificate(args, "peer-")
    if peer is not None and not args.peer_client_cert_auth:
        raise WrongUsage("--peer-cert-file needs --peer-client-cert-auth: peers prove who they are")
    found = Security(
        Port("client", client, args.insecure),
        Port("peer", peer, args.insecure),
        Port("metrics", client, args.insecure),
    )
    found.links = _links(args, peer is not None)
    etcd = _etcd(args, found)
    found.certificates = tuple(one for one in (client, peer, etcd) if one is not None)
    return found


def _links(args: argparse.Namespace, encrypted: bool) -> Credentials:
    token, ours = args.peer_token_file or None, None
    if token is not None:
        check_secret(token, "--peer-token-file")
    if encrypted:
        ours = Tls(args.peer_trusted_ca_file, args.peer_cert_file, args.peer_key_file)
    if ours is None and token is None:
        return PLAIN
    return _credentials(ours, "peer-cert-file" if token is None else "peer-token-file", token)


def _certificate(args: argparse.Namespace, prefix: str) -> Certificate | None:
    """Of one of the two sets of options; None where none of it is given."""
    cert, key, ca, auth = (
        getattr(args, f"{prefix}{name}".replace("-", "_"))
        for name in ("cert-file", "key-file", "trusted-ca-file", "client-cert-auth")
    )
    if bool(cert) != bool(key):
        raise WrongUsage(f"--{prefix}cert-file and --{prefix}key-file go together")
    if auth and not ca:
        raise WrongUsage(f"--{prefix}client-cert-auth needs --{prefix}trusted-ca-file")
    if ca and not auth:
        raise WrongUsage(
            f"--{prefix}trusted-ca-file is of no use without --{prefix}client-cert-auth"
        )
    if auth and not cert:
        raise WrongUsage(f"--{prefix}client-cert-auth needs --{prefix}cert-file")
    if not cert:
        return None
    options = [option.replace("--", f"--{prefix}") for option in OPTIONS]
    return Certificate(prefix.rstrip("-") or "client", cert, key, ca, options)


def _etcd(args: argparse.Namespace, found: Security) -> Certificate | None:
    ca, cert, key = (getattr(args, name, "") for name in ("etcd_ca", "etcd_cert", "etcd_key"))
    if bool(cert) != bool(key):
        raise WrongUsage("--etcd-cert and --etcd-key go together")
    if not (ca or cert):
        return None
    found.etcd = _credentials(
        Tls(ca or None, cert or None, key or None), "etcd-ca" if ca else "etcd-cert"
    )
    options = ("--etcd-cert", "--etcd-key", "--etcd-ca")
    return Certificate("etcd", cert, key, ca, options) if cert else None


def _credentials(tls: Tls | None, option: str, token_file: str | None = None) -> Credentials:
    try:
        return Credentials(tls, token_file)
    except OSError as error:
        raise WrongUsage(f"--{option}: cannot read {error.filename}: {error.strerror}") from None
    except ValueError as error:
        raise WrongUsage(f"--{option}: {error}") from None
