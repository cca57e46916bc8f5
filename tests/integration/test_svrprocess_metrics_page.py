"""The metrics page, read by those who do not mean well."""

import socket

import pytest
from prometheus_client import CollectorRegistry, Gauge

from svrprocess.listening import serve_metrics


@pytest.mark.parametrize("kind", ["application/openmetrics-text", "text/plain"])
def test_a_reader_who_accepts_nonsense_has_the_page_and_no_traceback_is_logged(
    kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    registry = CollectorRegistry()
    Gauge("shown", "It is shown.", registry=registry).set(4711)
    host, _, port = serve_metrics("127.0.0.1:0", registry).rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as reader:
        reader.sendall(f"GET /metrics HTTP/1.0\r\nAccept: {kind};version=x.y\r\n\r\n".encode())
        page = b"".join(iter(lambda: reader.recv(65_536), b""))
    assert page.startswith(b"HTTP/1.0 200 OK") and b"shown 4711.0" in page
    assert "Traceback" not in capfd.readouterr().err
