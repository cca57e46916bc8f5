"""What systemd is told: that a program serves, by its main process, and only if systemd asked."""

import socket
from pathlib import Path

import pytest

from svrprocess import program
from svrprocess.supervisor import READY, VARIABLE, tell, unsupervised


def listening(address: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(address)
    made.settimeout(10)
    return made


@pytest.mark.parametrize("abstract", [False, True])
def test_a_program_says_that_it_serves_after_it_has_said_where(
    abstract: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = str(tmp_path / "notify")
    with listening(f"\0{path[1:]}" if abstract else path) as heard:
        monkeypatch.setenv(VARIABLE, f"@{path[1:]}" if abstract else path)
        program.announce("127.0.0.1:7420")
        assert heard.recv(100) == READY
    assert capsys.readouterr().out == "ready 127.0.0.1:7420\n"


def test_nobody_is_told_where_nobody_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    tell(READY)


def test_a_supervisor_that_is_gone_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "gone"))
    tell(READY)
    assert "event=supervisor_not_told" in caplog.text


def test_a_child_does_not_speak_for_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "/run/notify")
    monkeypatch.setenv("SEQSVR_ETCD", "etcd:2379")
    assert VARIABLE not in unsupervised()
    assert unsupervised()["SEQSVR_ETCD"] == "etcd:2379"
