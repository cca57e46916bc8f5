"""The model of docs/model, searched by spin: SEQ-1, SEQ-2, SEQ-3, NRW-1, FENCE-1, LEASE-1.

What takes longer than seconds is left to `python docs/model/check.py`.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "model"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("model_check", FOLDER / "check.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


check = load()
QUICK = {case.title: case for case in check.cases() if case.quick}


@pytest.mark.parametrize("title", [title for title, case in QUICK.items() if case.sound])
def test_the_model_keeps_its_promises_in_every_state(title: str) -> None:
    result = check.run(QUICK[title])
    assert not check.complaint(QUICK[title], result)


@pytest.mark.parametrize("title", [title for title, case in QUICK.items() if not case.sound])
def test_a_planted_bug_is_found_and_what_should_happen_does(title: str) -> None:
    result = check.run(QUICK[title])
    assert not check.complaint(QUICK[title], result)
    assert result.length > 0


def test_at_least_three_planted_bugs_are_among_them() -> None:
    assert len([case for case in QUICK.values() if case.breaks not in ("", "REACHED")]) >= 3


def test_a_sound_model_is_no_planted_bug_and_a_planted_bug_is_not_sound() -> None:
    harmless = check.Case("harmless", "lease", (), "LEASE_1")
    assert check.complaint(harmless, check.run(harmless)) == "nothing was broken, not LEASE_1"
    broken = check.Case("broken", "lease", ("SHORT_GRACE",))
    assert check.complaint(broken, check.run(broken)).startswith("LEASE_1 is broken after ")


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ("error: max search depth too small\n", "the search was cut off"),
        ("pan: out of memory\n", "the search was cut off"),
        ("Warning: Search not completed\n", "the search was cut off"),
        ("", "99 states: fewer than the 100 that there were"),
    ],
)
def test_a_search_that_was_cut_proves_nothing(said: str, complaint: str) -> None:
    said += "State-vector 20 byte, depth reached 9, errors: 0\n       99 states, stored\n"
    assert check.complaint(check.Case("", "lease", floor=100), check.read(said, "")) == complaint


def test_a_step_that_never_happens_is_told() -> None:
    steps = "state 1 -(tr   3)-> state 1  [id 1 tp 2] [D-e-G] x.pml:7 => D_STEP7\n" * 2
    steps += "state 1 -(tr   4)-> state 1  [id 2 tp 2] [D-e-G] x.pml:7 => D_STEP8\n"
    said = "depth reached 9, errors: 0\n 99 states, stored\n  4321\ttrans    3 x.pml:7\n"
    result = check.read(said, steps)
    assert check.complaint(check.Case("", "lease"), result).endswith("the steps of lines 8")


def test_a_missing_spin_is_told_with_the_line_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="apt-get install spin gcc"):
        check.run(check.Case("", "lease"))
