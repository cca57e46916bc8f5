"""Credentials: what is read, what is refused, and when a new generation begins."""

import logging
import os
from pathlib import Path

import pytest

from certificates import Authority, Issued
from seqsvr.credentials import MAX_TOKEN_BYTES, PLAIN, Credentials
from seqsvr.tls import Tls


def identity(authority: Authority, issued: Issued) -> Tls:
    return Tls(ca=authority.crt, cert=issued.crt, key=issued.key)


def token_in(file: Path, content: bytes) -> Path:
    """With a time that no other file had: a clock may tick more slowly than a test writes."""
    file.write_bytes(content)
    token_in.times += 1  # type: ignore[attr-defined]
    os.utime(file, ns=(0, token_in.times))  # type: ignore[attr-defined]
    return file


token_in.times = 0  # type: ignore[attr-defined]


def test_a_token_goes_with_every_call_and_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    file = token_in(tmp_path / "token", b" s3cret \nsecond\n")
    assert Credentials(token_file=file).metadata() == (("authorization", "Bearer s3cret"),)
    assert PLAIN.metadata() == ()


@pytest.mark.parametrize(
    "content", [b"", b"\ntoken", b"two words", "gehört".encode(), b"x" * (MAX_TOKEN_BYTES + 1)]
)
def test_what_is_no_token_is_refused_and_never_shown(tmp_path: Path, content: bytes) -> None:
    file = token_in(tmp_path / "token", content)
    with pytest.raises(ValueError, match=r"token holds no token on its first line$"):
        Credentials(token_file=file)


def test_a_new_generation_begins_when_a_file_changes_and_not_before(tmp_path: Path) -> None:
    file = token_in(tmp_path / "token", b"one")
    credentials = Credentials(token_file=file)
    assert not credentials.refresh()
    token_in(file, b"two")
    assert credentials.refresh()
    assert not credentials.refresh()
    assert (credentials.generation, credentials.metadata()[0][1]) == (2, "Bearer two")


def test_a_file_that_is_wrong_or_gone_changes_nothing_and_is_complained_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "seqsvr")
    file = token_in(tmp_path / "token", b"one")
    credentials = Credentials(token_file=file)
    token_in(file, b"")
    assert [credentials.look() for _ in range(3)] == [False] * 3
    assert len(caplog.records) == 1
    file.unlink()
    assert [credentials.look() for _ in range(3)] == [False] * 3
    assert len(caplog.records) == 2
    assert credentials.metadata()[0][1] == "Bearer one"
    token_in(file, b"two")
    assert credentials.look()
    assert (credentials.generation, credentials.metadata()[0][1]) == (2, "Bearer two")


def test_half_a_pair_begins_no_generation_and_the_whole_one_does(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    first = authority.issue("client")
    credentials = Credentials(identity(authority, first))
    cert = first.crt.read_bytes()
    second = authority.issue("client")
    whole = second.crt.read_bytes()

    second.crt.write_bytes(cert)  # of the pair before, beside the new key
    with pytest.raises(ValueError, match=r"client\.crt and .*client\.key are no pair"):
        credentials.refresh()
    second.crt.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="are no pair"):
        credentials.refresh()
    assert credentials.generation == 1
    second.crt.write_bytes(whole)
    assert credentials.refresh()
    assert credentials.generation == 2


@pytest.mark.parametrize("part", ["ca", "cert", "key"])
def test_what_is_no_pem_is_refused_at_once(tmp_path: Path, part: str) -> None:
    authority = Authority(tmp_path)
    issued = authority.issue("client")
    files = {"ca": authority.crt, "cert": issued.crt, "key": issued.key}
    files[part].write_text("-----BEGIN NONSENSE-----\n")
    with pytest.raises(ValueError, match=r"no pair|holds no certificates"):
        Credentials(Tls(files["ca"], files["cert"], files["key"]))


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        Credentials(Tls(ca=tmp_path / "absent.crt"))
    assert caught.value.filename == str(tmp_path / "absent.crt")


def test_only_what_has_files_is_worth_looking_at(tmp_path: Path) -> None:
    assert not PLAIN.watched
    assert not Credentials(Tls()).watched
    assert Credentials(Tls(ca=Authority(tmp_path).crt)).watched


def test_a_certificate_without_a_key_is_of_no_use(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cert and key"):
        Tls(cert=tmp_path / "client.crt")
