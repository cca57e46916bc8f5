"""`seqctl auth`: what it makes is what servers take."""

import json
import stat
from pathlib import Path

import pytest

from seqctl.__main__ import main
from seqsvr.credentials import Credentials
from svrprocess import rights
from svrprocess.identities import Shown, digest
from svrprocess.roles import Role

ORDERS = ("auth", "token", "orders", "--role", "allocator", "--role", "reader", "--uids", "0-9")


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    code = main([str(word) for word in words])
    return code, capsys.readouterr().out


def saved(file: Path, text: str) -> Path:
    file.touch(mode=0o600)
    file.write_text(text)
    return file


def test_a_token_is_known_by_its_entry(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out = run(capsys, *ORDERS)
    assert code == 0
    first, entry = out.split("\n", 1)
    token = first.rpartition(" ")[2]
    assert len(token) >= 40
    assert token not in entry
    caller = rights.read(str(saved(tmp_path / "auth.toml", out))).caller(Shown(digest(token)))
    assert caller is not None
    assert (caller.name, caller.uids) == ("orders", ((0, 9),))
    assert caller.roles == {Role.ALLOCATOR, Role.READER}
    assert run(capsys, *ORDERS)[1] != out, "no two are alike"


def test_a_token_goes_into_a_file_that_clients_take(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "token"
    code, out = run(capsys, *ORDERS, "--token-file", file, "-o", "json")
    assert code == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    token = file.read_text().strip()
    shown = json.loads(out)
    assert shown.keys() == {"name", "entry"}
    assert digest(token).hex() in shown["entry"]
    assert Credentials(token_file=file).metadata() == (("authorization", f"Bearer {token}"),)
    assert main([*ORDERS, "--token-file", str(file)]) == 3, "nor is one overwritten"
    assert file.read_text().strip() == token
    assert json.loads(run(capsys, *ORDERS, "-o", "json")[1])["token"]


@pytest.mark.parametrize("words", [["a b"], ["orders", "--uids", "9-1"], ["new\nline"]])
def test_what_the_file_could_not_hold_is_refused(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert main(["auth", "token", *words, "--role", "reader"]) == 2
    captured = capsys.readouterr()
    assert not captured.out
    assert captured.err.count("\n") == 1


def test_a_file_is_checked_as_servers_read_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    entry = run(capsys, *ORDERS)[1]
    file = saved(tmp_path / "auth.toml", entry)
    code, out = run(capsys, "auth", "check", file)
    assert code == 0
    assert "orders" in out and "allocator, reader" in out and "0-9" in out and "a token" in out
    [shown] = json.loads(run(capsys, "auth", "check", file, "-o", "json")[1])["identities"]
    assert shown["tokens"] == 1
    file.chmod(0o644)
    assert run(capsys, "auth", "check", file)[0] == 1
    saved(file, entry + "[[identity]]\nname = 'b'\n").chmod(0o600)
    code, out = run(capsys, "auth", "check", file, "-o", "json")
    assert code == 1
    assert "identity 2 ('b')" in json.loads(out)["problem"]
