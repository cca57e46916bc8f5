"""Where the certificates of one end of a connection lie."""

from dataclasses import dataclass
from os import PathLike, fspath


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files, read anew whenever they change.

    ca: the authorities that the other end's certificate is checked against, those of the system if
    None; cert, key: our own certificate and its key, for servers that ask for one; server_name:
    what the other end's certificate is made out to, where that is not the host of its address.

    Raises ValueError.
    """

    ca: str | PathLike[str] | None = None
    cert: str | PathLike[str] | None = None
    key: str | PathLike[str] | None = None
    server_name: str = ""

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise ValueError("cert and key: one is of no use without the other")

    @property
    def files(self) -> tuple[str, ...]:
        """Those that there are."""
        return tuple(fspath(file) for file in (self.ca, self.cert, self.key) if file is not None)
