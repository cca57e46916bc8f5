"""What a certificate in a file says, and what is wrong with it."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from seqctl.certs_issuing import ROLE_URI, UNREADABLE, alternative_names
from seqctl.failures import WrongUsage

_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Shown:
    """One certificate. days_left: whole ones, negative once it has expired; problem: "" is none."""

    file: Path
    subject: str
    names: tuple[str, ...]
    roles: tuple[str, ...]
    not_after: datetime
    days_left: int
    problem: str

    def as_json(self) -> dict[str, object]:
        return {
            "file": str(self.file),
            "subject": self.subject,
            "names": list(self.names),
            "roles": list(self.roles),
            "not_after": self.not_after.isoformat(),
            "days_left": self.days_left,
            "problem": self.problem,
        }


def shown(file: Path, now: datetime) -> list[Shown]:
    """All certificates in a PEM file; the first is the one that a key belongs to.

    Raises WrongUsage where there is none, OSError.
    """
    content = file.read_bytes()
    try:
        certs = x509.load_pem_x509_certificates(content)
        unfit = _unfit(certs[0], file)
        return [
            _shown(file, cert, now, unfit if index == 0 else "") for index, cert in enumerate(certs)
        ]
    except UNREADABLE as error:  # much of a certificate is parsed where it is asked for
        raise WrongUsage(f"{file} holds no certificate: {error}") from None


def _shown(file: Path, cert: x509.Certificate, now: datetime, unfit: str) -> Shown:
    names = alternative_names(cert)
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    hosts = (
        *names.get_values_for_type(x509.DNSName),
        *map(str, names.get_values_for_type(x509.IPAddress)),
    )
    return Shown(
        file,
        cert.subject.rfc4514_string(),
        (*(uri for uri in uris if not uri.startswith(ROLE_URI)), *hosts),
        tuple(uri.removeprefix(ROLE_URI) for uri in uris if uri.startswith(ROLE_URI)),
        cert.not_valid_after_utc,
        int((cert.not_valid_after_utc - now).total_seconds() // _DAY_S),
        _outside(cert, now) or unfit,
    )


def _outside(cert: x509.Certificate, now: datetime) -> str:
    if now >= cert.not_valid_after_utc:
        return "expired"
    return "does not hold yet" if now < cert.not_valid_before_utc else ""


def _unfit(cert: x509.Certificate, file: Path) -> str:
    """What is wrong with the key beside it, of which there may be none."""
    key = file.with_suffix(".key")
    if key == file or not key.exists():
        return ""
    try:
        private = load_pem_private_key(key.read_bytes(), password=None)
    except UNREADABLE:
        return f"{key.name} is no key that can be read"
    except PermissionError:
        return f"{key.name} may not be read"
    return "" if private.public_key() == cert.public_key() else f"{key.name} is not its key"
