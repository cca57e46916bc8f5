"""Every promise of docs/PROTOCOL.md has a checker; each checker says which promise it checks."""

import re
from pathlib import Path

import seqcheck
from seqcheck import CHECKERS, Checker

ROOT = Path(__file__).parents[2]
PROMISES = re.findall(
    r"^\| ([A-Z]+-\d+) \|", (ROOT / "docs" / "PROTOCOL.md").read_text(encoding="utf-8"), re.M
)


def test_the_table_of_promises_is_found_at_all() -> None:
    assert len(PROMISES) == len(set(PROMISES)) >= 11


def test_every_promise_has_a_checker_and_every_checker_a_promise() -> None:
    assert set(CHECKERS) == {*PROMISES, "LIVE"}
    assert all(CHECKERS.values())


def test_a_checker_that_follows_a_run_is_registered_under_its_own_promise() -> None:
    for promise, checkers in CHECKERS.items():
        following = [one for one in checkers if isinstance(one, type)]
        assert len(following) == 1
        assert issubclass(following[0], Checker)
        assert following[0].promise == promise


def test_every_checker_names_its_promise_and_its_source() -> None:
    for promise, checkers in CHECKERS.items():
        for checker in checkers:
            text = checker.__doc__ or ""
            assert promise in text or promise == "LIVE"
            if isinstance(checker, type) and promise != "LIVE":
                assert "docs/PROTOCOL.md" in text


def test_all_checkers_that_follow_a_run_are_exported() -> None:
    following = {one for of in CHECKERS.values() for one in of if isinstance(one, type)}
    assert following == set(Checker.__subclasses__())
    assert {one.__name__ for one in following} <= set(seqcheck.__all__)
