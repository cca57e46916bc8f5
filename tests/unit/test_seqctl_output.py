"""What reaches a terminal: whatever names, notes and answers say, they steer nothing."""

import ast
import json
from pathlib import Path

import pytest

import seqctl
from seqctl.output import print_json, print_table, say
from seqsvr.escaping import escaped

HOSTILE = "a\nb\r\x1b]0;owned\x07\x1b[2J\x7f\x9b31m\x00\u2028\u202e\ud800"


def test_a_line_shows_control_characters_as_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"node {HOSTILE}")
    out = capsys.readouterr().out
    assert out[:-1].isprintable() and out.endswith("\n")
    assert r"a\nb\r\x1b]0;owned\x07\x1b[2J\x7f\x9b31m\x00\u2028\u202e\ud800" in out


def test_a_cell_of_a_table_does_likewise(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("ADDRESS",), [(HOSTILE,), ("[bold]plain[/bold] é",)])
    out = capsys.readouterr().out
    assert all(line.isprintable() for line in out.split("\n"))
    assert r"\x1b[2J" in out and "[bold]plain[/bold] é" in out


def test_json_says_it_in_words_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"note": HOSTILE})
    out = capsys.readouterr().out
    assert out[:-1].isprintable() and out.isascii()
    assert json.loads(out) == {"note": HOSTILE}


def test_what_is_printable_is_left_alone() -> None:
    text = "Grüße, 世界 \\n 🙂"
    assert escaped(text) == text


def test_no_other_module_of_the_commands_prints() -> None:
    for file in Path(seqctl.__file__).parent.glob("*.py"):
        if file.name == "output.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            called = node.func if isinstance(node, ast.Call) else None
            printed = isinstance(called, ast.Name) and called.id == "print"
            assert not printed, f"{file.name}:{getattr(node, 'lineno', 0)}: seqctl.output.say"
