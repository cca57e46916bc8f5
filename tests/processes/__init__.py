"""Real processes for end-to-end tests: started, watched, killed by pid, and never left behind.

service.py    `seqctl up` as a child process
commands.py   other commands, and where the project's files are
calls.py      blocking calls by plain generated stubs
hammer.py     a client process: four clients that call without end and write histories
recorded.py   what histories say
metrics.py    what a service tells Prometheus
tmpfs.py      a small file system of its own, in a mount namespace
"""

from processes.commands import ROOT, TRACE, environment, seqctl
from processes.service import SMALL, Service, Services, free_base, free_port

__all__ = [
    "ROOT",
    "SMALL",
    "TRACE",
    "Service",
    "Services",
    "environment",
    "free_base",
    "free_port",
    "seqctl",
]
