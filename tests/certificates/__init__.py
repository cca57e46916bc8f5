"""Authorities of the tests' own, and certificates by them: sound, foreign or expired.

    authority = Authority(tmp_path)
    server = authority.issue("server", dns=["localhost"], ips=["127.0.0.1"])
    seqsvr.Tls(ca=authority.crt, cert=server.crt, key=server.key)

To issue under a name once more is to rotate its files.
"""

import datetime
import ipaddress
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAY = datetime.timedelta(days=1)
_HOUR = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class Issued:
    """PEM files of one certificate and its key (mode 0600), and when it ends."""

    crt: Path
    key: Path
    ends: datetime.datetime


class Authority:
    """Issues into `directory`, which is made, where its own certificate is NAME.crt."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        usage = x509.KeyUsage(
            **dict.fromkeys(_USAGES, False) | {"key_cert_sign": True, "crl_sign": True}
        )
        self._certificate = (
            self._begun(self._name, self._key.public_key(), _now() + 30 * _DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.crt = directory / f"{name}.crt"
        _write(self.crt, self._certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self,
        name: str,
        *,
        dns: Iterable[str] = (),
        ips: Iterable[str] = (),
        uris: Iterable[str] = (),
        expired: bool = False,
        lasts: datetime.timedelta = _DAY,
    ) -> Issued:
        """NAME.crt and NAME.key, for servers and callers alike; expired: since an hour ago."""
        key = ec.generate_private_key(ec.SECP256R1())
        ends = _now() - _HOUR if expired else (_now() + lasts).replace(microsecond=0)
        names: list[x509.GeneralName] = [
            *map(x509.DNSName, dns),
            *(x509.IPAddress(ipaddress.ip_address(ip)) for ip in ips),
            *map(x509.UniformResourceIdentifier, uris),
        ]
        usage = x509.KeyUsage(**dict.fromkeys(_USAGES, False) | {"digital_signature": True})
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = (
            self._begun(_named(name), key.public_key(), ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        issued = Issued(self.directory / f"{name}.crt", self.directory / f"{name}.key", ends)
        _write(issued.key, key.private_bytes(*_PLAIN_KEY))
        _write(issued.crt, certificate.public_bytes(serialization.Encoding.PEM))
        return issued

    def _begun(
        self, name: x509.Name, public: ec.EllipticCurvePublicKey, ends: datetime.datetime
    ) -> x509.CertificateBuilder:
        ours = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(_now(), ends) - _DAY)
            .not_valid_after(ends)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(ours, critical=False)
        )


def bundle(file: Path, parts: Sequence[Path]) -> Path:
    """Several certificates in one file: what is trusted while one authority follows another."""
    _write(file, b"".join(part.read_bytes() for part in parts))
    return file


_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
_PLAIN_KEY = (
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _write(file: Path, content: bytes) -> None:
    """In one step, so that whoever looks meanwhile sees the old file or the new."""
    new = file.with_name(f".{file.name}.new")
    new.touch(mode=0o600)
    new.write_bytes(content)
    os.replace(new, file)
