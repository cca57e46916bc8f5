"""What deploy/ describes, read and run on loopback addresses.

described.py    one process as a description has it, and what becomes of its addresses
systemd.py      units and the files in etc/
compose.py      the compose file
kubernetes.py   manifests, as kustomize makes them
standing.py     the processes of a description, started, asked and stopped as it says
tools.py        the programs that check descriptions, or the line that installs them
"""

from deployed.described import Described, Probe
from deployed.standing import Standing

__all__ = ["Described", "Probe", "Standing"]
