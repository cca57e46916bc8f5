"""When the certificate that a server shows expires, whoever it was that issued it."""

import asyncio
import ssl
from datetime import datetime

from seqsvr.tls import Tls


async def expiry(address: str, tls: Tls, timeout_s: float) -> datetime | None:
    """None where nobody shows one at host:port, or nothing is installed that reads them."""
    try:
        from cryptography import x509
    except ImportError:
        return None
    shown = None
    try:
        async with asyncio.timeout(timeout_s):
            shown = await _shown(address, tls)
        return x509.load_der_x509_certificate(shown).not_valid_after_utc if shown else None
    except (OSError, ValueError, EOFError):  # a TimeoutError is an OSError, too
        return None


async def _shown(address: str, tls: Tls) -> bytes | None:
    # It is looked at and believed nothing: one that has expired is to be seen, too.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if tls.cert is not None:
        context.load_cert_chain(tls.cert, tls.key, password="")
    host, _, port = address.rpartition(":")
    name = tls.server_name or host.strip("[]")
    _, writer = await asyncio.open_connection(
        host.strip("[]"), int(port), ssl=context, server_hostname=name
    )
    try:
        shown: bytes | None = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return shown
    finally:
        writer.close()
