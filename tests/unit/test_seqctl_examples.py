"""Every command of seqctl has an example in its help, and the example is right usage."""

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from seqctl.__main__ import _OTHERS, _parser

ROOT = Path(__file__).parents[2]

Found = tuple[tuple[str, ...], argparse.ArgumentParser]


def commands(parser: argparse.ArgumentParser, path: tuple[str, ...]) -> Iterator[Found]:
    """Every command below a parser that has none below it."""
    below = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not below:
        yield path, parser
    for action in below:
        for name, command in action.choices.items():
            if path or name not in (*_OTHERS, "up"):  # these have their options only if asked for
                yield from commands(command, (*path, name))


def every_command() -> list[Found]:
    found = list(commands(_parser([]), ()))
    for name in (*_OTHERS, "up"):
        whole = _parser([name])
        [action] = [a for a in whole._actions if isinstance(a, argparse._SubParsersAction)]
        found += commands(action.choices[name], (name,))
    return found


@pytest.mark.parametrize(
    ("path", "parser"), [pytest.param(*one, id=" ".join(one[0])) for one in every_command()]
)
def test_a_command_shows_an_example_that_it_would_take(
    path: tuple[str, ...], parser: argparse.ArgumentParser
) -> None:
    text = re.search(r"^example: (.*)$", parser.format_help(), re.MULTILINE)
    assert text, f"seqctl {' '.join(path)} --help has no example"
    program, *given = shlex.split(text[1])
    assert program == "seqctl" and tuple(given[: len(path)]) == path, text[1]
    assert _parser(given).parse_args(given).run


def test_no_command_is_missed() -> None:
    paths = {path for path, _ in every_command()}
    assert {("next",), ("up",), ("cluster", "init"), ("audit",)} <= paths


def test_every_command_is_run_by_a_test() -> None:
    """As words of a call in a test, or in README's part for operators, which a test follows."""
    folders = ("integration", "e2e", "e2e/operators", "e2e/cluster", "real_cluster", "processes")
    files = [path for folder in folders for path in (ROOT / "tests" / folder).glob("*.py")]
    texts = {path.stem: path.read_text() for path in files}
    readme = (ROOT / "README.md").read_text()
    missed = []
    for path, _ in every_command():
        words = re.compile(r",\s*".join(f'"{word}"' for word in path))
        typed = f"$ seqctl {' '.join(path)} "
        # The tests of one group may have a short way of saying what comes after its name.
        own = texts.get(f"test_seqctl_{path[0]}", "") if path[1:] else ""
        found = any(map(words.search, texts.values())) or f'"{path[-1]}"' in own
        if not found and typed not in readme:
            missed.append(" ".join(path))
    assert not missed
