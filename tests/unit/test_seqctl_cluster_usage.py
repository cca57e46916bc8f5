"""`seqctl cluster`: what can never succeed is refused before anybody is asked."""

import pytest

from seqctl.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((), "SUBCOMMAND"),
        (("status",), "--etcd is missing (or SEQSVR_ETCD)"),
        (("init", "--etcd", "a:1"), "--set"),
        (("init", "--etcd", "a:1", "--set", "set-0"), "NAME[:FIRST-LAST[,...]]=HOST:PORT"),
        (("init", "--etcd", "a:1", "--set", "set-0=a:1,b:1", "-r", "1", "-w", "1"), "R + W"),
        (("init", "--etcd", "nowhere", "--set", "set-0=a:1"), "nowhere"),
        (("status", "--etcd", "a:1", "--etcd-prefix", "x"), "prefix"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(
    arguments: tuple[str, ...],
    named: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SEQSVR_ETCD", raising=False)
    try:
        code = main(["cluster", *arguments])
    except SystemExit as left:  # argparse's way
        code = int(left.code or 0)
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert named in err


def test_a_configuration_file_of_servers_is_none_of_its(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEQSVR_CONFIG", "/no/such/file")
    monkeypatch.setenv("SEQSVR_ETCD", "nowhere")
    assert main(["cluster", "status"]) == 2
    assert "nowhere" in capsys.readouterr().err
