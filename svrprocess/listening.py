"""Ports: taken, or refused with one line. Nothing else of a program need have been touched yet."""

import socket

import grpc
from prometheus_client import CollectorRegistry, start_http_server

from clustermap.logs import get_logger
from svrprocess.failures import NotDone
from svrprocess.values import split

_log = get_logger(__name__)


def bind(server: grpc.aio.Server, listen: str) -> str:
    """Take the port of HOST:PORT for `server`; its address, with the real port for port 0.

    The server must have been made with the option grpc.so_reuseport 0, or two of them share a port
    without a word. Raises NotDone.
    """
    try:
        host, port = split(listen)
        # grpc reports a port that it cannot have in its own log only, and at length.
        family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
        socket.create_server((host.strip("[]"), port), family=family).close()
        taken = server.add_insecure_port(listen)
    except (OSError, OverflowError, ValueError, RuntimeError) as error:
        raise NotDone(f"cannot listen on {listen}: {_why(error)}") from None
    return f"{host}:{taken}"


def serve_metrics(listen: str, registry: CollectorRegistry) -> str:
    """Serve the registry to Prometheus until the process ends; its address, empty for none.

    listen: HOST:PORT, or empty for no metrics. Raises NotDone.
    """
    if not listen:
        return ""
    try:
        host, port = split(listen)
        pages, _ = start_http_server(port, host.strip("[]"), registry)
    except (OSError, OverflowError, ValueError) as error:
        raise NotDone(f"cannot serve metrics on {listen}: {_why(error)}") from None
    address = f"{host}:{pages.server_port}"
    _log.info("metrics_served", metrics=address)
    return address


def _why(error: Exception) -> object:
    return error.strerror or error if isinstance(error, OSError) else error
