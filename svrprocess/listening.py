"""Ports: taken, or refused with one line. Nothing else of a program need have been touched yet."""

import socket

from prometheus_client import CollectorRegistry

from clustermap.logs import get_logger
from svrprocess.enduring import Enduring
from svrprocess.failures import NotDone
from svrprocess.metrics_page import MetricsPage
from svrprocess.security import Port
from svrprocess.values import split

_log = get_logger(__name__)


def bind(server: Enduring, listen: str, port: Port) -> str:
    """Take the port of HOST:PORT for `server`; its address, with the real port for port 0.

    The server must have been made with the option grpc.so_reuseport 0, or two of them share a port
    without a word. Raises NotDone, and WrongUsage for an address that has to be protected.
    """
    try:
        port.check(listen)
        host, number = split(listen)
        # grpc reports a port that it cannot have in its own log only, and at length.
        family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
        socket.create_server((host.strip("[]"), number), family=family).close()
        if port.certificate is None:
            taken = server.add_insecure_port(listen)
        else:
            taken = server.add_secured_port(listen, port.certificate.server_credentials)
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        raise NotDone(f"cannot listen on {listen}: {_why(error)}") from None
    address = f"{host}:{taken}"
    port.taken(address)
    return address


def serve_metrics(listen: str, registry: CollectorRegistry, port: Port | None = None) -> str:
    """Serve the registry to Prometheus until the process ends; its address, empty for none.

    listen: HOST:PORT, or empty for no metrics; port: as for Front.bind. Raises NotDone, and
    WrongUsage for an address that has to be protected.
    """
    if not listen:
        return ""
    port = port or Port("metrics")
    try:
        port.check(listen)
        host, number = split(listen)
        page = MetricsPage(host, number, registry, port.certificate)
    except (OSError, OverflowError, ValueError) as error:
        raise NotDone(f"cannot serve metrics on {listen}: {_why(error)}") from None
    page.start()
    address = f"{host}:{page.server_port}"
    port.taken(address)
    _log.info("metrics_served", metrics=address)
    return address


def _why(error: Exception) -> object:
    return error.strerror or error if isinstance(error, OSError) else error
