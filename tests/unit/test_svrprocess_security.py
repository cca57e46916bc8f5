"""Options of certificates: what they come to, and which combinations are refused."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from certificates import Authority
from svrprocess.failures import WrongUsage, one_line
from svrprocess.options import parse
from svrprocess.security import SECURITY_OPTIONS, Security, security
from svrprocess.values import is_loopback

Found = Callable[..., Security]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """ca, server, peer and other, each .crt and .key."""
    authority = Authority(tmp_path)
    for name in ("server", "peer", "other"):
        authority.issue(name, ips=["127.0.0.1"])
    return tmp_path


def found(folder: Path, *words: str, environ: dict[str, str] | None = None) -> Security:
    """A word with a dot is a file in `folder`."""
    argv = [str(folder / word) if "." in word else word for word in words]
    return security(parse("prog", "A program.", SECURITY_OPTIONS, argv, environ or {}))


CLIENT = ("--cert-file", "server.crt", "--key-file", "server.key")
CLIENTS_CA = ("--trusted-ca-file", "ca.crt", "--client-cert-auth")
PEER = ("--peer-cert-file", "peer.crt", "--peer-key-file", "peer.key")
PEERS_CA = ("--peer-trusted-ca-file", "ca.crt", "--peer-client-cert-auth")


def test_without_options_everything_is_in_the_clear(files: Path) -> None:
    one = found(files)
    assert [port.certificate for port in (one.client, one.peer, one.metrics)] == [None] * 3
    assert not one.links.watched and not one.etcd.watched and one.certificates == ()


def test_callers_and_metrics_share_a_certificate_and_peers_have_another(files: Path) -> None:
    one = found(files, *CLIENT, *CLIENTS_CA, *PEER, *PEERS_CA)
    assert one.client.certificate is one.metrics.certificate is not one.peer.certificate
    assert [each.link for each in one.certificates] == ["client", "peer"]
    assert one.links.tls is not None
    assert one.links.tls.files == tuple(str(files / n) for n in ("ca.crt", "peer.crt", "peer.key"))


def test_options_may_come_from_the_environment_and_a_file(files: Path) -> None:
    (files / "conf.toml").write_text(
        f'trusted-ca-file = "{files}/ca.crt"\nclient-cert-auth = true\ninsecure = true\n'
    )
    environ = {
        "SEQSVR_CERT_FILE": str(files / "server.crt"),
        "SEQSVR_KEY_FILE": str(files / "server.key"),
        "SEQSVR_CONFIG": str(files / "conf.toml"),
    }
    one = found(files, environ=environ)
    assert one.client.certificate is not None and one.peer.certificate is None
    assert one.peer.insecure


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (CLIENT[:2], "--cert-file and --key-file go together"),
        (CLIENT[2:], "--cert-file and --key-file go together"),
        (PEER[:2], "--peer-cert-file and --peer-key-file go together"),
        ((*CLIENT, "--client-cert-auth"), "--client-cert-auth needs --trusted-ca-file"),
        (
            (*CLIENT, *CLIENTS_CA[:2]),
            "--trusted-ca-file is of no use without --client-cert-auth",
        ),
        (CLIENTS_CA, "--client-cert-auth needs --cert-file"),
        (PEERS_CA, "--peer-client-cert-auth needs --peer-cert-file"),
        (PEER, "--peer-cert-file needs --peer-client-cert-auth"),
        (
            ("--cert-file", "none.crt", "--key-file", "server.key"),
            "--cert-file: cannot read",
        ),
        (("--cert-file", "server.crt", "--key-file", "none.key"), "--key-file: cannot read"),
        (
            (*CLIENT, "--trusted-ca-file", "none.crt", "--client-cert-auth"),
            "--trusted-ca-file: cannot read",
        ),
        (
            ("--cert-file", "server.crt", "--key-file", "other.key"),
            "other.key is not the key of the certificate in",
        ),
        (
            ("--cert-file", "server.key", "--key-file", "server.key"),
            "server.key holds no certificate in PEM",
        ),
        (
            ("--cert-file", "server.crt", "--key-file", "copy.crt"),
            "copy.crt holds no key in PEM",
        ),
        (
            (*PEER, "--peer-trusted-ca-file", "server.key", "--peer-client-cert-auth"),
            "--peer-trusted-ca-file",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused_in_one_line(
    files: Path, words: tuple[str, ...], says: str
) -> None:
    shutil.copy(files / "server.crt", files / "copy.crt")
    (files / "copy.crt").chmod(0o600)
    with pytest.raises(WrongUsage) as caught:
        found(files, *words)
    text = str(caught.value)
    assert says in text and text == one_line(text)


def test_a_key_that_others_can_read_is_refused(files: Path) -> None:
    (files / "server.key").chmod(0o644)
    with pytest.raises(WrongUsage, match=r"--key-file: .*server\.key can be read by others"):
        found(files, *CLIENT)


@pytest.mark.parametrize(
    ("host", "is_it"),
    [
        ("127.0.0.1", True),
        ("127.255.255.254", True),
        ("[::1]", True),
        ("[0:0:0:0:0:0:0:1]", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("0.0.0.0", False),
        ("[::]", False),
        ("[::2]", False),
        ("128.0.0.1", False),
        ("10.0.0.1", False),
        ("127.1", False),
        ("localhost.example", False),
        ("127.0.0.1.example", False),
        ("", False),
    ],
)
def test_loopback_is_what_no_other_host_reaches(host: str, is_it: bool) -> None:
    assert is_loopback(host) is is_it
