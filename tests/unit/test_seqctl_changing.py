"""--yes, confirmation, and what an audit line says of a change."""

import argparse
import asyncio
import json
import re
from io import StringIO

import pytest

from clustermap.errors import MapUnavailable
from seqctl import changing
from seqctl.changing import audited, confirm
from seqctl.failures import NotDone, WrongUsage


class Terminal(StringIO):
    """Standard input with somebody at it."""

    def isatty(self) -> bool:
        return True


def asked(yes: bool = False) -> argparse.Namespace:
    return argparse.Namespace(yes=yes)


@pytest.mark.parametrize("answer", ["y\n", "yes\n", " YES \n"])
def test_yes_is_yes(
    answer: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    confirm(asked(), "Sure?")
    assert capsys.readouterr() == ("", "Sure? [yes/no] ")


@pytest.mark.parametrize("answer", ["n\n", "no\n", "", "\n", "yep\n"])
def test_anything_else_is_no(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(answer))
    with pytest.raises(NotDone, match="not confirmed, nothing was changed"):
        confirm(asked(), "Sure?")


def test_a_script_is_not_asked_but_refused_unless_it_says_yes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", StringIO("yes\n"))
    with pytest.raises(WrongUsage, match="Sure\\? Nobody is there to be asked: --yes"):
        confirm(asked(), "Sure?")
    confirm(asked(yes=True), "Sure?")
    assert capsys.readouterr() == ("", "")


def test_only_dangerous_changes_have_yes() -> None:
    for dangerous in (False, True):
        parser = argparse.ArgumentParser()
        changing.add_arguments(parser, dangerous=dangerous)
        args = parser.parse_args([])
        assert args.dry_run is False
        assert hasattr(args, "yes") is dangerous


def line(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    (text,) = capsys.readouterr().err.splitlines()
    found = re.fullmatch(r'audit at=(".*?") who=(".*?") what=(".*?") outcome=(".*")', text)
    assert found
    return dict(
        zip(
            ("at", "who", "what", "outcome"),
            (json.loads(part) for part in found.groups()),
            strict=True,
        )
    )


def run(what: str, error: Exception | None = None, outcome: str = "") -> None:
    async def body() -> None:
        async with audited(what) as made:
            made.text = outcome or made.text
            if error:
                raise error

    asyncio.run(body())


def test_a_change_leaves_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEQSVR_ACTOR", "ann")
    run("a change")
    found = line(capsys)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found.pop("at"))
    assert found == {"who": "ann", "what": "a change", "outcome": "done"}
    run("a change", outcome="moved\n 3 sections")
    assert line(capsys)["outcome"] == "moved 3 sections"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (NotDone("refused: why"), "failed: refused: why"),
        (MapUnavailable("no answer"), "failed: no answer"),
        (ValueError("odd"), "failed: ValueError('odd')"),
    ],
)
def test_a_change_that_fails_leaves_a_line_and_fails(
    error: Exception, outcome: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(type(error)):
        run("a change", error)
    assert line(capsys)["outcome"] == outcome


def test_who_changes_is_named_also_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEQSVR_ACTOR", raising=False)
    assert "@" in changing.actor()

    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert re.match(r"\d+@.", changing.actor())
