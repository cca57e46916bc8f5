"""Reads message traces: `sender recipient unix_time` per line."""

from array import array
from dataclasses import dataclass, field

from seqctl.failures import WrongUsage
from seqctl.lines import read_lines

_LARGEST = 2**63  # no cluster has a uid_limit above it


def _uids() -> "array[int]":
    return array("Q")


@dataclass(slots=True)
class Trace:
    """The messages of a file in order, three parallel arrays: 24 bytes per message."""

    path: str
    senders: "array[int]" = field(default_factory=_uids)
    recipients: "array[int]" = field(default_factory=_uids)
    lines: "array[int]" = field(default_factory=_uids)
    largest: int = 0
    largest_line: int = 0

    def __len__(self) -> int:
        return len(self.lines)

    def require_below(self, uid_limit: int) -> None:
        """Raise WrongUsage naming the line of the largest uid if it is not below uid_limit."""
        if self.largest >= uid_limit:
            raise WrongUsage(
                f"{self.path}:{self.largest_line}: uid {self.largest} (after --spread)"
                f" is not below the cluster's uid_limit {uid_limit}"
            )

    def _append(self, line: int, sender: int, recipient: int) -> None:
        self.senders.append(sender)
        self.recipients.append(recipient)
        self.lines.append(line)
        if sender > self.largest or recipient > self.largest or not self.largest_line:
            self.largest, self.largest_line = max(sender, recipient), line


def read_trace(path: str, *, spread: int = 1, limit: int | None = None) -> Trace:
    """The first `limit` messages of a trace, uids multiplied by `spread`; .gz is unpacked.

    Blank lines and lines that begin with # are passed over. Raises WrongUsage naming the line
    that is no message.
    """
    trace = Trace(path)
    for number, line in read_lines(path):
        if limit is not None and len(trace) >= limit:
            break
        fields = line.split()
        if not fields or fields[0].startswith(b"#"):
            continue
        try:
            sender, recipient = _message(fields)
        except ValueError as error:
            raise WrongUsage(f"{path}:{number}: {error}") from None
        sender, recipient = sender * spread, recipient * spread
        if max(sender, recipient) >= _LARGEST:
            raise WrongUsage(f"{path}:{number}: a uid (after --spread) is not below {_LARGEST}")
        trace._append(number, sender, recipient)
    if not trace:
        raise WrongUsage(f"{path}: holds no message")
    return trace


def _message(fields: list[bytes]) -> tuple[int, int]:
    if len(fields) != 3:
        raise ValueError("must be: sender recipient unix_time")
    sender, recipient, time = fields
    if not (sender.isdigit() and recipient.isdigit() and len(sender) < 20 > len(recipient)):
        raise ValueError("sender and recipient must be decimal uids")
    try:
        float(time)
    except ValueError:
        raise ValueError("unix_time must be a number") from None
    return int(sender), int(recipient)
