"""Certificates as servers use them: read anew whenever their files change, and never half.

Those who renew certificates write several files, one after the other, and a look may fall between
two of them. What cannot be parsed or does not fit together is refused as a whole, and what was read
before stays in use. It is a failure once the same files have been found so twice.
"""

import os
import ssl
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import grpc
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from clustermap.logs import get_logger
from svrprocess.failures import WrongUsage
from svrprocess.secret_files import read_secret, read_trusted

_log = get_logger(__name__)

OPTIONS = ("--cert-file", "--key-file", "--trusted-ca-file")

_Stamp = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class Content:
    """What was in the files at one time. expires_s: Unix time of the earliest end of validity."""

    cert: bytes
    key: bytes = field(repr=False)
    ca: bytes | None
    expires_s: float
    context: ssl.SSLContext


class Certificate:
    """A chain, its key, and the authorities that callers are checked against.

    link: what it is for, in metrics and in the log: client, peer or etcd. ca: empty where callers
    show no certificate; with it, only those that show a good one get a connection. options: that
    name cert, key and ca. Raises WrongUsage, which names option and file.
    """

    def __init__(
        self, link: str, cert: str, key: str, ca: str = "", options: Sequence[str] = OPTIONS
    ) -> None:
        self.link = link
        self._options = tuple(options)
        self.reloads = 0
        self.failures = 0
        self._cert, self._key, self._ca = cert, key, ca
        self._stamp = self._look()
        self._unfit: tuple[_Stamp, bool] | None = None  # what was refused, and whether we said so
        self.content = self._read()

    def refresh(self) -> None:
        """Read the files if they have changed. Blocks for as long as the disk does."""
        stamp = self._look()
        if stamp == self._stamp:
            self._unfit = None
            return
        try:
            content = self._read()
            if self._look() != stamp:
                raise WrongUsage("the files change while they are read")
        except WrongUsage as error:
            self._refused(stamp, str(error))
            return
        self.content, self._stamp, self._unfit = content, stamp, None
        self.reloads += 1
        _log.info("certificate_reloaded", link=self.link, cert=self._cert)

    def server_credentials(self) -> grpc.ServerCredentials:
        """For one port. gRPC asks at each handshake, on threads of its own, for what has changed;
        connections that stand go on with what they began with."""
        told = self.content

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            nonlocal told
            now = self.content
            if now is told:
                return None
            told = now
            return _configuration(now)

        return grpc.dynamic_ssl_server_credentials(
            _configuration(told),
            fetch,  # type: ignore[arg-type] # its None is documented: nothing has changed
            require_client_authentication=bool(self._ca),
        )

    def _refused(self, stamp: _Stamp, fault: str) -> None:
        if self._unfit is None or self._unfit[0] != stamp:
            self._unfit = (stamp, False)  # perhaps the rest is still to come
            return
        self.failures += 1
        if not self._unfit[1]:
            self._unfit = (stamp, True)
            _log.error("certificate_refused", link=self.link, cert=self._cert, error=fault)

    def _look(self) -> _Stamp:
        return tuple(_stamp(file) for file in (self._cert, self._key, self._ca) if file)

    def _read(self) -> Content:
        from svrprocess import pem  # which who has no certificate need not wait for

        named, key_named, ca_named = self._options
        cert, key = read_trusted(self._cert, named), read_secret(self._key, key_named)
        ca = read_trusted(self._ca, ca_named) if self._ca else None
        chain = pem.certificates(f"{named}: {self._cert}", cert)
        if ca is not None:
            pem.certificates(f"{ca_named}: {self._ca}", ca)
        at = f"{key_named}: {self._key}"
        if pem.public(f"{named}: {self._cert}", chain[0]) != pem.public_of_key(at, key):
            raise WrongUsage(f"{at} is not the key of the certificate in {self._cert}")
        expires_s = min(one.not_valid_after_utc.timestamp() for one in chain)
        return Content(cert, key, ca, expires_s, self._context())

    def _context(self) -> ssl.SSLContext:
        """For what is no gRPC."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # With a password, for otherwise it asks for one at the terminal.
            context.load_cert_chain(self._cert, self._key, password="")
            if self._ca:
                context.load_verify_locations(self._ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except (OSError, ValueError) as error:
            named = f"{self._options[0]}: {self._cert}"
            raise WrongUsage(f"{named} cannot be used: {error}") from None
        return context


class CertificateMetrics(Collector):
    """What Prometheus is told of them; registered by who makes it."""

    def __init__(self, certificates: Iterable[Certificate]) -> None:
        self._certificates = tuple(certificates)

    def collect(self) -> Iterator[Metric]:
        expiry = GaugeMetricFamily(
            "seqsvr_certificate_expiry_timestamp_seconds",
            "Unix time at which the first certificate of the chain in use ends.",
            labels=["link"],
        )
        reloads = CounterMetricFamily(
            "seqsvr_certificate_reloads",
            "Times that changed certificates were taken into use.",
            labels=["link"],
        )
        failures = CounterMetricFamily(
            "seqsvr_certificate_reload_failures",
            "Looks, one a second, at changed certificates that cannot be used; the old ones are.",
            labels=["link"],
        )
        for one in self._certificates:
            expiry.add_metric([one.link], one.content.expires_s)
            reloads.add_metric([one.link], one.reloads)
            failures.add_metric([one.link], one.failures)
        yield from (expiry, reloads, failures)


def _configuration(content: Content) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(content.key, content.cert)], content.ca)


def _stamp(file: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
