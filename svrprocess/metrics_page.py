"""The page that Prometheus reads, in the clear or over TLS, and not to be stopped by one reader.

Each connection has a thread of its own, in which also its handshake takes place, and brings one
page. At most MAX_READERS at a time are served; whoever comes then is hung up on. A
handshake that takes longer than READER_S ends its connection, and so does a page.
"""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from svrprocess.certificates import Certificate

MAX_READERS = 64
READER_S = 10.0


class MetricsPage(WSGIServer):
    """Listens from when it is made; serves from `start` until the process ends. Raises OSError."""

    request_queue_size = 128

    def __init__(
        self, host: str, port: int, registry: CollectorRegistry, certificate: Certificate | None
    ) -> None:
        self.address_family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
        self._certificate = certificate
        self._free = threading.BoundedSemaphore(MAX_READERS)
        super().__init__((host.strip("[]"), port), _Handler)
        self.set_app(_tolerant(make_wsgi_app(registry)))

    def start(self) -> None:
        """In a thread of its own."""
        threading.Thread(target=self.serve_forever, name="metrics", daemon=True).start()

    def server_bind(self) -> None:
        # Not WSGIServer's, which asks DNS for a name of the address.
        self.allow_reuse_address = True
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.socket.getsockname()[:2]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """On the accepting thread: nothing here waits for anybody."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            threading.Thread(
                target=self._serve, args=(request, client_address), daemon=True
            ).start()
        except RuntimeError:  # no thread to be had
            self._free.release()
            raise

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Readers that hang up are no news."""

    def _serve(self, request: socket.socket, client_address: Any) -> None:
        try:
            request.settimeout(READER_S)
            with self._secured(request) as secured:
                # Each step has its time, and so has the whole: a byte a second is no reading.
                ending = threading.Timer(READER_S, _hang_up, (secured,))
                ending.daemon = True
                ending.start()
                try:
                    self.finish_request(secured, client_address)
                finally:
                    ending.cancel()
                    _hang_up(secured)
        except OSError:
            return  # it went, or took too long, or its handshake failed
        finally:
            self._free.release()

    def _secured(self, request: socket.socket) -> socket.socket:
        if self._certificate is None:
            return request
        # The context of the moment, so a renewed certificate is shown from the next reader on.
        return self._certificate.content.context.wrap_socket(request, server_side=True)


def _tolerant(page: Callable[..., Any]) -> Callable[..., Any]:
    """The same for readers whose Accept is beyond the library, which fails then, with a traceback
    in our log for each."""

    def tolerant(environ: dict[str, Any], start_response: Any) -> Any:
        try:
            return page(environ, start_response)
        except (TypeError, ValueError):
            environ.pop("HTTP_ACCEPT", None)
            return page(environ, start_response)

    return tolerant


class _Handler(WSGIRequestHandler):
    """Logs nothing."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


def _hang_up(request: socket.socket) -> None:
    """Not by a TLS socket's own method, which takes its state from under who reads."""
    with suppress(OSError):
        socket.socket.shutdown(request, socket.SHUT_RDWR)
