"""Every command of seqctl has an example in its help, and the example is right usage."""

import argparse
import re
import shlex
from collections.abc import Iterator

import pytest

from seqctl.__main__ import _OTHERS, _parser

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
