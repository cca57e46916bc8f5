"""The catalogue of planted bugs: each one can still be planted, and says what it breaks."""

import ast
from dataclasses import replace

import pytest

from seqcheck import CHECKERS
from simsvr.mutants import table
from simsvr.mutants.catalogue import ALL, named
from simsvr.mutants.patches import INVARIANT, DoesNotApply, Hunk, Mutant
from simsvr.mutants.scratch import PACKAGES, ROOT, plant, scratch
from simsvr.mutants.table import Row
from simsvr.plan import MAP_KINDS, PLOT_KINDS
from simsvr.plots import ALL_KINDS, PLOTS

NAMES = [mutant.name for mutant in ALL]


def test_every_bug_has_a_name_of_its_own() -> None:
    assert len(NAMES) == len(set(NAMES))


@pytest.mark.parametrize("mutant", ALL, ids=NAMES)
def test_every_bug_can_be_planted_in_the_source_of_today(mutant: Mutant) -> None:
    texts: dict[str, str] = {}
    for hunk in mutant.hunks:
        before = texts.get(hunk.path) or (ROOT / hunk.path).read_text()
        texts[hunk.path] = hunk.applied(before)
    assert texts
    for path, text in texts.items():
        assert path.startswith(tuple(PACKAGES))
        assert ast.dump(ast.parse(text)) != ast.dump(ast.parse((ROOT / path).read_text()))


@pytest.mark.parametrize("mutant", ALL, ids=NAMES)
def test_every_bug_breaks_promises_that_there_are(mutant: Mutant) -> None:
    assert mutant.breaks
    assert set(mutant.breaks) <= {*CHECKERS, INVARIANT}


def test_every_promise_has_a_planted_bug() -> None:
    assert {promise for mutant in ALL for promise in mutant.breaks} >= CHECKERS.keys() - {"LIVE"}


def test_a_bug_whose_text_is_not_there_once_cannot_be_planted() -> None:
    hunk = Hunk("a.py", "x = 1\n", "x = 2\n")
    assert hunk.applied("x = 1\ny = 1\n") == "x = 2\ny = 1\n"
    for text in ("", "x = 1\nx = 1\n"):
        with pytest.raises(DoesNotApply):
            hunk.applied(text)
    with pytest.raises(DoesNotApply):
        replace(hunk, new=hunk.old).applied("x = 1\n")


def test_a_bug_is_planted_in_a_copy_and_nowhere_else() -> None:
    mutant = named("greatest-grant")
    path = mutant.hunks[0].path
    before = (ROOT / path).read_text()
    with scratch(None) as copy:
        assert (copy / path).read_text() == before
        plant(mutant, copy)
        assert (copy / path).read_text() != before
    assert (ROOT / path).read_text() == before
    assert not copy.exists()


def test_the_table_says_what_was_seen_and_how_to_see_it_again() -> None:
    mutant = Mutant("a-bug", ("SEQ-2",), "it goes wrong", (), with_it="its defence")
    caught, missed = Row(mutant, 16, "SEQ-2"), Row(replace(mutant, name="other"), None, "")
    assert caught.caught and not missed.caught
    text = table.written([caught, missed], [("another", "it does nothing")])
    assert "| `a-bug` | it goes wrong | SEQ-2 | SEQ-2 | 17 |" in text
    assert "`python -m simsvr.mutants --only a-bug --seed 16`" in text
    assert "| `other` | it goes wrong | SEQ-2 | not caught |" in text
    assert "* `a-bug`: its defence." in text
    assert "* another: it does nothing." in text


def test_every_plot_is_drawn_by_plans() -> None:
    assert tuple(PLOTS) == PLOT_KINDS
    assert set(MAP_KINDS) < set(ALL_KINDS)


def test_the_table_goes_between_its_marks_and_nothing_else_changes() -> None:
    page = (ROOT / "docs" / "TESTING.md").read_text(encoding="utf-8")
    once = table.inserted(page, "| a table |\n")
    assert "| a table |" in once
    assert table.inserted(once, "| another |\n") == table.inserted(page, "| another |\n")
    with pytest.raises(ValueError, match="no place"):
        table.inserted("a page without marks", "")
