"""What systemd is told of a service of Type=notify; nobody is told anything elsewhere."""

import logging
import os
import socket

VARIABLE = "NOTIFY_SOCKET"
READY = b"READY=1"

_log = logging.getLogger(__name__)


def tell(state: bytes) -> None:
    """Send `state` (see sd_notify(3)) to whoever supervises this process, if anybody asked."""
    path = os.environ.get(VARIABLE)
    if not path:
        return
    address = f"\0{path[1:]}" if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to_it:
            to_it.connect(address)
            to_it.sendall(state)
    except OSError as error:  # it serves all the same
        _log.error("event=supervisor_not_told socket=%s error=%r", path, error)


def unsupervised() -> dict[str, str]:
    """The environment for a child process that is not to speak for this one."""
    return {name: value for name, value in os.environ.items() if name != VARIABLE}
