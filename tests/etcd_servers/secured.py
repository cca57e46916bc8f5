"""Certificates for etcd on 127.0.0.1, and for its clients, made by the openssl command."""

import shutil
import subprocess
from pathlib import Path

_INSTALL_LINE = "apt-get install openssl"


class Certificates:
    """An authority of our own, and what it has signed, in `folder`."""

    def __init__(self, folder: Path) -> None:
        found = shutil.which("openssl")
        if found is None:
            raise AssertionError(f"no openssl command: {_INSTALL_LINE}")
        self._openssl = found
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.ca, ca_key = folder / "ca.pem", folder / "ca.key"
        self._run(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "2", "-subj", "/CN=authority of a test"),
            *("-keyout", str(ca_key), "-out", str(self.ca)),
        )
        self._ca_key = ca_key
        self.server_cert, self.server_key = self._sign("server", "subjectAltName=IP:127.0.0.1")
        self.client_cert, self.client_key = self._sign("client", "extendedKeyUsage=clientAuth")

    def server_options(self) -> list[str]:
        """Of etcd: TLS towards clients, who must show a certificate."""
        return [
            *("--cert-file", str(self.server_cert), "--key-file", str(self.server_key)),
            *("--trusted-ca-file", str(self.ca), "--client-cert-auth"),
        ]

    def _sign(self, name: str, extension: str) -> tuple[Path, Path]:
        cert, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        request, extensions = self._folder / f"{name}.csr", self._folder / f"{name}.ext"
        extensions.write_text(extension + "\n")
        self._run(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-subj", f"/CN={name}", "-keyout", str(key), "-out", str(request)),
        )
        self._run(
            *("x509", "-req", "-in", str(request), "-CA", str(self.ca), "-CAkey"),
            *(str(self._ca_key), "-CAcreateserial", "-days", "2", "-extfile", str(extensions)),
            *("-out", str(cert)),
        )
        return cert, key

    def _run(self, *arguments: str) -> None:
        done = subprocess.run([self._openssl, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
