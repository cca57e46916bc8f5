"""Certificates for etcd on 127.0.0.1, and for its clients."""

from collections.abc import Sequence
from pathlib import Path

from seqctl import certs_folder
from seqctl.certs_issuing import CLIENTS_OF_ETCD


class Certificates:
    """An authority of our own, and what it has signed, in `folder`; hosts: besides 127.0.0.1."""

    def __init__(self, folder: Path, hosts: Sequence[str] = ()) -> None:
        self.folder = folder
        self._hosts = hosts
        self.renew()
        self.ca = folder / "ca.crt"
        self.server_cert = self.client_cert = folder / "etcd.crt"
        self.server_key = self.client_key = folder / "etcd.key"

    def renew(self) -> None:
        """All anew, into the same files; the authority stays."""
        certs_folder.init(self.folder, self._hosts)

    def server_options(self) -> list[str]:
        """Of etcd: TLS towards clients, who must show a certificate that is made for this."""
        return [
            *("--cert-file", str(self.server_cert), "--key-file", str(self.server_key)),
            *("--trusted-ca-file", str(self.ca), "--client-cert-auth"),
            *("--client-cert-allowed-hostname", CLIENTS_OF_ETCD),
        ]
