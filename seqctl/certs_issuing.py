"""Certificates of a cluster with an authority of its own: what each of them says.

An authority signs leaf certificates and nothing else. A leaf is made out to hosts where it is shown
by servers, and to a role where it is shown by callers: a URI `seqsvr://role/ROLE` (docs/SECURITY.md
has what each role may do). Keys are ECDSA P-256, which gRPC, Go and Python's ssl all take.
"""

import ipaddress
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

UNREADABLE: tuple[type[Exception], ...] = (
    *(ValueError, TypeError, UnsupportedAlgorithm),
    *(x509.DuplicateExtension, x509.UnsupportedGeneralNameType),
)
"""What cryptography raises for a key or a certificate that is none, or of no known kind."""
ROLE_URI = "seqsvr://role/"
LOOPBACK = ("localhost", "127.0.0.1", "::1")
CLIENTS_OF_ETCD = "seqsvr-etcd"
"""etcd knows no roles: told `--client-cert-allowed-hostname` with this, it lets in nobody else."""
CA_DAYS = 3650
_ORGANISATION = "seqsvr"
_SLOW_CLOCK = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Leaf:
    """One kind of certificate. serves: made out to hosts; calls: shown by clients."""

    name: str
    serves: bool = False
    calls: bool = False
    role: str = ""
    names: tuple[str, ...] = ()


LEAVES = (
    Leaf("server", serves=True),
    Leaf("peer", serves=True, calls=True, role="internal"),
    Leaf("reader", calls=True, role="reader"),
    Leaf("allocator", calls=True, role="allocator"),
    Leaf("operator", calls=True, role="operator"),
    Leaf("etcd", serves=True, calls=True, names=(CLIENTS_OF_ETCD,)),
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key."""

    cert: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def cert_pem(self) -> bytes:
        return self.cert.public_bytes(Encoding.PEM)

    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def new_authority(now: datetime, days: int = CA_DAYS) -> Pair:
    """Signs itself. Its name is its own: two authorities of one cluster are never mixed up."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"seqsvr test authority {secrets.token_hex(4)}")
    builder = _dated(key, name, name, now, now + timedelta(days=days))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    return Pair(builder.sign(key, hashes.SHA256()), key)


def issue(
    authority: Pair,
    leaf: Leaf,
    hosts: Sequence[str],
    now: datetime,
    lifetime: timedelta,
) -> Pair:
    """A new key, and a certificate for it, from a little before `now` on.

    hosts: DNS names and addresses, of no use to a leaf that does not serve. It never outlives the
    authority. Raises ValueError for a host that is none.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.cert
    end = min(now + lifetime, issuer.not_valid_after_utc)
    builder = _dated(key, _name(leaf.name), issuer.subject, now, end)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(_purposes(leaf)), critical=False)
    builder = builder.add_extension(_authority_identifier(issuer), critical=False)
    names = _alternative_names(leaf, hosts)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Pair(builder.sign(authority.key, hashes.SHA256()), key)


def host_name(text: str) -> x509.GeneralName:
    """An address or a DNS name, as it stands in a certificate. Raises ValueError."""
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    labels = text.removeprefix("*.").removesuffix(".").split(".")
    if not all(label and label.replace("-", "").replace("_", "").isalnum() for label in labels):
        raise ValueError(f"{text!r} is neither an address nor a host name")
    if not text.isascii() or len(text) > 253:
        raise ValueError(f"{text!r} is no host name")
    return x509.DNSName(text.removesuffix("."))


def alternative_names(cert: x509.Certificate) -> x509.SubjectAlternativeName:
    """Those that a certificate is made out to; empty where it has none."""
    try:
        return cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return x509.SubjectAlternativeName([])


def hosts_of(cert: x509.Certificate) -> tuple[str, ...]:
    """DNS names and addresses, but those that every certificate has or that name no host."""
    names = alternative_names(cert)
    addresses = map(str, names.get_values_for_type(x509.IPAddress))
    found = (*names.get_values_for_type(x509.DNSName), *addresses)
    return tuple(one for one in found if one not in (*LOOPBACK, CLIENTS_OF_ETCD))


def _name(common: str) -> x509.Name:
    named = ((NameOID.ORGANIZATION_NAME, _ORGANISATION), (NameOID.COMMON_NAME, common))
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in named])


def _dated(
    key: ec.EllipticCurvePrivateKey,
    subject: x509.Name,
    issuer: x509.Name,
    now: datetime,
    end: datetime,
) -> x509.CertificateBuilder:
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SLOW_CLOCK)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _purposes(leaf: Leaf) -> list[x509.ObjectIdentifier]:
    wanted = (
        (leaf.serves, ExtendedKeyUsageOID.SERVER_AUTH),
        (leaf.calls, ExtendedKeyUsageOID.CLIENT_AUTH),
    )
    return [oid for has, oid in wanted if has]


def _authority_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own.value)


def _alternative_names(leaf: Leaf, hosts: Iterable[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    if leaf.role:
        found.append(x509.UniformResourceIdentifier(ROLE_URI + leaf.role))
    if leaf.serves:
        found += (host_name(host) for host in dict.fromkeys((*LOOPBACK, *hosts)))
    return found + [x509.DNSName(name) for name in leaf.names]
