"""No promise without somebody who checks it, a test that names it, and a bug that breaks it."""

import re
from pathlib import Path

import pytest

import seqcheck
from simsvr.mutants.catalogue import ALL

ROOT = Path(__file__).parents[2]
PROTOCOL = ROOT / "docs" / "PROTOCOL.md"
OWN = Path(__file__).name


def promised() -> list[str]:
    """The ids in the table of promises."""
    table = PROTOCOL.read_text(encoding="utf-8").partition("## 2.")[2].partition("## 3.")[0]
    return re.findall(r"^\| ([A-Z]+-\d+) \|", table, re.MULTILINE)


def files_that_name(promise: str) -> list[str]:
    """Files of tests that cite an id, alone or in a range such as SEQ-1..SEQ-4."""
    wanted = re.compile(rf"\b{promise}\b")
    files = [file for file in (ROOT / "tests").rglob("test_*.py") if file.name != OWN]
    return [file.name for file in files if wanted.search(file.read_text(encoding="utf-8"))]


def test_the_table_of_promises_is_read_whole() -> None:
    assert len(promised()) == 11
    assert promised()[:5] == [f"SEQ-{number}" for number in range(1, 6)]


@pytest.mark.parametrize("promise", promised())
def test_each_promise_has_a_checker_a_test_and_a_planted_bug(promise: str) -> None:
    assert seqcheck.CHECKERS.get(promise), f"{promise} has no checker in seqcheck.CHECKERS"
    assert files_that_name(promise), f"no test names {promise}"
    planted = [mutant.name for mutant in ALL if promise in mutant.breaks]
    assert planted, f"no planted bug in simsvr/mutants breaks {promise}"


def test_what_is_checked_or_broken_is_promised() -> None:
    """LIVE is no promise, and INVARIANT no checker: everything else is in the table."""
    known = {*promised(), "LIVE"}
    assert set(seqcheck.CHECKERS) == known
    assert {promise for mutant in ALL for promise in mutant.breaks} <= known | {"INVARIANT"}
