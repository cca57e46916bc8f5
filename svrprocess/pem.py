"""What PEM files hold. Loaded by whoever has any, for the library is not loaded in no time."""

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from svrprocess.failures import WrongUsage


def certificates(file: str, content: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except Exception as error:  # noqa: BLE001 - parsers of foreign files know many
        raise WrongUsage(f"{file} holds no certificate in PEM: {error}") from None


def public(file: str, certificate: x509.Certificate) -> bytes:
    try:
        key = certificate.public_key()
        return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except Exception as error:  # noqa: BLE001 - as above
        raise WrongUsage(f"{file} is for a key of an unknown kind: {error}") from None


def public_of_key(file: str, content: bytes) -> bytes:
    try:
        key = load_pem_private_key(content, password=None).public_key()
        return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except Exception as error:  # noqa: BLE001 - as above
        raise WrongUsage(f"{file} holds no key in PEM without a password: {error}") from None
