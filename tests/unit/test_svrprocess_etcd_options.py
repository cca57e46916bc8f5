"""Where a program finds etcd: the options of all, and what they come to."""

from pathlib import Path
from typing import Any

import pytest

from clustermap.etcd_options import EtcdOptions
from svrprocess.etcd_options import ETCD_OPTIONS, etcd_options
from svrprocess.failures import Failed, WrongUsage, leaves, one_line
from svrprocess.options import parse


def parsed(*argv: str) -> EtcdOptions:
    return etcd_options(parse("prog", "A program.", ETCD_OPTIONS, argv, {}))


@pytest.fixture
def file(tmp_path: Path) -> Any:
    def write(name: str, content: bytes) -> str:
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o600)
        return str(tmp_path / name)

    return write


def test_endpoints_alone_are_enough() -> None:
    assert parsed("--etcd", "a:1,b:2") == EtcdOptions(("a:1", "b:2"))


def test_tls_and_a_user_are_passed_on(file: Any) -> None:
    ca, cert, key = (file(name, b"pem") for name in ("ca", "cert", "key"))
    secret = file("secret", b"hunter2\nrest\n")
    found = parsed(
        *("--etcd", "a:1", "--etcd-prefix", "/other/", "--etcd-ca", ca, "--etcd-cert", cert),
        *("--etcd-key", key, "--etcd-user", "me", "--etcd-password-file", secret),
    )
    assert found == EtcdOptions(
        ("a:1",), "/other/", Path(ca), Path(cert), Path(key), user="me", password="hunter2"
    )


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "--etcd is missing"),
        (["--etcd", "a"], "--etcd must be HOST:PORT"),
        (["--etcd", "a:1", "--etcd-prefix", "/x"], "prefix"),
        (["--etcd", "a:1", "--etcd-ca", "/nowhere/ca"], "--etcd-ca: cannot read /nowhere/ca"),
        (["--etcd", "a:1", "--etcd-cert", "c"], "--etcd-cert and --etcd-key go together"),
        (["--etcd", "a:1", "--etcd-user", "me"], "--etcd-user and --etcd-password-file"),
        (
            ["--etcd", "a:1", "--etcd-user", "me", "--etcd-password-file", "/dev/null"],
            "--etcd-password-file: /dev/null is not a file",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused(argv: list[str], says: str) -> None:
    with pytest.raises(WrongUsage) as caught:
        parsed(*argv)
    assert says in str(caught.value)


def test_a_password_that_is_no_text_is_refused(file: Any) -> None:
    with pytest.raises(WrongUsage, match="holds no password"):
        parsed("--etcd", "a:1", "--etcd-user", "me", "--etcd-password-file", file("p", b"\xff\n"))


def test_what_others_may_read_is_no_secret(file: Any) -> None:
    for option, more in (("key", ("cert", "c")), ("password-file", ("user", "me"))):
        path = Path(file(option, b"hunter2"))
        path.chmod(0o644)
        beside = path.with_name("cert")
        beside.write_bytes(b"pem")
        value = str(beside) if more[0] == "cert" else more[1]
        with pytest.raises(WrongUsage, match=f"--etcd-{option}: .* can be read by others"):
            parsed("--etcd", "a:1", f"--etcd-{option}", str(path), f"--etcd-{more[0]}", value)


def test_the_leaves_of_groups_are_what_was_raised() -> None:
    one, two, three = ValueError(1), Failed("2"), KeyError(3)
    group = ExceptionGroup("g", [one, ExceptionGroup("h", [two, three])])
    assert leaves(group) == [one, two, three]
    assert leaves(one) == [one]
    assert one_line("a\n  b\tc") == "a b c"
