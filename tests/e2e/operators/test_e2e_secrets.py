"""Secrets of known values in every source, and nothing that anybody can see has one of them."""

import os
import secrets
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from etcd_servers import Certificates, EtcdServers
from processes import ROOT, environment, free_base, seqctl

READY_S = 60.0
USER = "seqsvr"


class World:
    """Programs that know secrets, and whatever they let out. folder: of all files."""

    def __init__(self, folder: Path) -> None:
        self.certificates = Certificates(folder / "certs")
        self.certs, self.folder = self.certificates.folder, folder
        self.password, self.token = secrets.token_hex(20), secrets.token_hex(32)
        self.stray = secrets.token_hex(20)  # a token that is nobody's, and a misplaced password
        self.said: list[str] = []
        self._running: list[subprocess.Popen[bytes]] = []
        self._write("password", self.password)
        self._write("wrong", self.stray)
        self._write("token", self.token)
        self._write("auth.toml", _AUTH.format(sha256(self.token.encode()).hexdigest()))
        self.etcd = EtcdServers(folder / "etcd", fsync=False, certificates=self.certificates)

    def secrets(self) -> dict[str, str]:
        """What must not be seen: by what it is."""
        found = {"password": self.password, "token": self.token, "stray": self.stray}
        found["hash of the token"] = sha256(self.token.encode()).hexdigest()
        for name in ("password", "token", "stray"):
            found[f"{name}, encoded"] = b64encode(found[name].encode()).decode()[:24]
        for key in self.certs.glob("*.key"):
            found[key.name] = key.read_text().splitlines()[1]
        return found

    def options(self, *, callers: str = "mtls") -> list[str]:
        """Of servers, but for etcd. callers: mtls, or tokens."""
        peer = ("peer-cert-file", "peer-key-file", "peer-trusted-ca-file")
        own = ("cert-file", "key-file", "trusted-ca-file")
        files = ("{}.crt", "{}.key", "ca.crt")
        found = ["--peer-client-cert-auth", "--log-level", "debug"]
        for name, options in (("server", own), ("peer", peer)):
            taken = zip(options, files, strict=True)
            for option, file in taken:
                if callers == "mtls" or option != "trusted-ca-file":
                    found += [f"--{option}", str(self.certs / file.format(name))]
        found += ["--client-cert-auth"] if callers == "mtls" else []
        return [*found, "--auth-file", str(self.folder / "auth.toml")]

    def map_of(self, password: str = "password") -> list[str]:
        ca, cert, key = (str(self.certs / name) for name in ("ca.crt", "etcd.crt", "etcd.key"))
        return [
            *("--etcd", ",".join(self.etcd.endpoints), "--etcd-ca", ca, "--etcd-cert", cert),
            *("--etcd-key", key, "--etcd-user", USER),
            *("--etcd-password-file", str(self.folder / password)),
        ]

    def as_role(self, role: str) -> list[str]:
        files = ("ca.crt", f"{role}.crt", f"{role}.key")
        flags = zip(("--ca", "--cert", "--key"), files, strict=True)
        return [part for flag, file in flags for part in (flag, str(self.certs / file))]

    def ask(self, *arguments: str, well: bool = True) -> None:
        """A command of seqctl, and whether it goes well."""
        done = seqctl(*arguments)
        assert (done.returncode == 0) is well, done.stderr
        self.said += [done.stdout, done.stderr]

    def start(self, name: str, program: str, *arguments: str) -> None:
        log = self.folder / f"{name}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", program, *arguments],
                stdout=file,
                stderr=file,
                env={**environment(), "SEQSVR_UID_LIMIT": "10000", "SEQSVR_SECTION_SIZE": "1000"},
                cwd=ROOT,
                start_new_session=True,
            )
        self._running.append(process)
        deadline_s = time.monotonic() + READY_S
        while "ready " not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline_s, log.read_text()[-3000:]
            time.sleep(0.05)

    def titles(self) -> None:
        """How processes and those that they have started are called."""
        for process in self._running:
            group = os.getpgid(process.pid)
            for entry in Path("/proc").iterdir():
                if entry.name.isdigit() and _group(int(entry.name)) == group:
                    self.said += [(entry / name).read_text() for name in ("cmdline", "comm")]

    def metrics(self, address: str, *, shows: bool = True) -> None:
        context = ssl.create_default_context(cafile=str(self.certs / "ca.crt"))
        if shows:
            context.load_cert_chain(self.certs / "reader.crt", self.certs / "reader.key")
        url = f"https://{address}/metrics"
        with urllib.request.urlopen(url, context=context, timeout=20) as page:
            self.said.append(page.read().decode())

    def stop(self) -> None:
        for process in self._running:
            process.send_signal(signal.SIGTERM)
        for process in self._running:
            process.wait(60)
        self.said += [log.read_text() for log in self.folder.glob("*.log")]

    def close(self) -> None:
        for process in self._running:
            process.kill()
            process.wait()
        self.etcd.close()

    def _write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text + "\n")
        (self.folder / name).chmod(0o600)


_AUTH = """
[[identity]]
name = "billing"
token_sha256 = "{}"
roles = ["allocator"]
"""


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return -1


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    try:
        made.etcd.start()
        enable_users(made)
        yield made
    finally:
        made.close()


def enable_users(world: World) -> None:
    """A user of ours beside etcd's own, who may everything."""
    etcdctl = str(Path(sys.executable).parent / "etcdctl")
    where = [f"--endpoints=https://{world.etcd.endpoints[0]}", f"--cacert={world.certs / 'ca.crt'}"]
    where += [f"--cert={world.certs / 'etcd.crt'}", f"--key={world.certs / 'etcd.key'}"]
    for line in (
        "user add root --no-password",
        f"user add {USER} --interactive=false",
        "user grant-role root root",
        f"user grant-role {USER} root",
        "auth enable",
    ):
        done = subprocess.run(
            [etcdctl, *where, *line.split()],
            input=world.password + "\n",
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0 or "root role" in done.stderr, done.stderr


def test_no_secret_is_ever_seen(world: World) -> None:
    port = free_base(0, 1, 2, 3, 4, 5, 6, 7, 8)
    at = [f"127.0.0.1:{port + index}" for index in range(9)]
    mtls, data = world.options(), ("--data", str(world.folder / "store"))
    world.start(
        *("storesvr", "storesvr", *data, "--listen", at[0], "--metrics", at[1], *mtls),
        *("--cluster", "secret", "--replica", "store-0", "--create"),
    )
    operator = world.as_role("operator")
    world.ask("cluster", "init", *world.map_of(), *operator, "--set", f"set-0={at[0]}")
    world.start("arbitersvr", "arbitersvr", *world.map_of(), *mtls, "--listen", at[2])
    tokens = world.options(callers="tokens")
    world.start(
        *("allocsvr", "allocsvr", *world.map_of(), "--listen", at[3], "--peer-listen", at[5]),
        *("--metrics", at[7], "--workers", "2", "--log-format", "json", *tokens),
    )
    world.start(
        *("up", "seqctl", "up", "--data", str(world.folder / "up"), "--listen", "127.0.0.1:0"),
        *mtls,
    )
    ca = ("--ca", str(world.certs / "ca.crt"))
    token = ("--token-file", str(world.folder / "token"))
    world.ask("next", "1", "--addr", at[3], *ca, *token, "--timeout", "30")
    for wrong in ("--token-file", str(world.folder / "wrong")), ():
        world.ask("next", "1", "--addr", at[3], *ca, *wrong, "--timeout", "5", well=False)
    world.ask("cluster", "status", *world.map_of(), *operator)
    world.ask("cluster", "status", *world.map_of("wrong"), *operator, well=False)
    world.metrics(at[1])
    world.metrics(at[7], shows=False)
    world.titles()
    refused(world)
    world.stop()
    seen = "\n".join(world.said)
    for looked_at in ("seqsvr_sections", "--etcd-password-file", "event=", "storesvr"):
        assert looked_at in seen, "or nothing was looked at"
    found = [name for name, secret in world.secrets().items() if secret in seen]
    assert not found


def refused(world: World) -> None:
    """What is wrong is told without what it holds; --help shows no value of the environment's."""
    wrong = world.folder / "wrong"
    config = world.folder / "config.toml"
    config.write_text(f'etcd-password = "{world.stray}"\n')
    keyless = ("--cert-file", str(world.certs / "server.crt"), "--key-file", str(wrong))
    for program in ("storesvr", "allocsvr", "arbitersvr"):
        for more in (["--help"], ["--config", str(config)], [*keyless, "--etcd", "127.0.0.1:1"]):
            done = subprocess.run(
                [sys.executable, "-m", program, *more],
                env={
                    **environment(),
                    "SEQSVR_ETCD_PASSWORD_FILE": str(world.folder / "password"),
                    "SEQSVR_TOKEN_FILE": str(world.folder / "token"),
                    "SEQSVR_DATA": str(world.folder / "unused"),
                    "SEQSVR_CLUSTER": "secret",
                    "SEQSVR_REPLICA": "store-9",
                },
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert done.returncode == (0 if more == ["--help"] else 2), done.stderr
            assert "Traceback" not in done.stderr
            world.said += [done.stdout, done.stderr]
    world.ask("next", "1", *world.as_role("reader")[:4], "--key", str(wrong), well=False)
