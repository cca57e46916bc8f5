"""The soak's command leaves a report behind, whatever becomes of the run."""

import sys
from pathlib import Path

import pytest

from made_soaks import broken, made
from real_cluster import soak
from real_cluster.measured import Measured


@pytest.mark.parametrize(
    ("error", "ended"),
    [(AssertionError("no root"), "failed"), (KeyboardInterrupt(), "interrupted")],
)
def test_a_run_that_does_not_even_begin_leaves_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, ended: str
) -> None:
    def cluster(*_: object) -> None:
        raise error

    monkeypatch.setattr(soak, "RealCluster", cluster)
    measured, file = Measured(9, 1.0, "make soak SEED=9"), tmp_path / "soak-9.html"
    soak.soaked(tmp_path / "logs", measured, file)
    kept = Measured.from_json(file.with_suffix(".json").read_text())
    assert kept.ended == measured.ended == ended
    assert "make soak SEED=9" in file.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["soak-9.html", "soak-9.json"]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["soak", *arguments])
    return soak.main()


def test_measurements_become_the_same_report_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "soak-42.html"
    soak.save(broken(made(60)), file)
    before = file.read_text()
    file.unlink()
    assert run(monkeypatch, "--from-json", str(tmp_path / "soak-42.json")) == 0
    assert file.read_text() == before


def test_what_is_no_measurement_is_refused_with_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.json").write_text("{}")
    assert run(monkeypatch, "--from-json", str(tmp_path / "other.json")) == 1
    assert "other.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("measured", "ended", "code"),
    [
        (made(5), "time is up", 0),
        (made(5), "interrupted", 130),
        (made(5), "failed", 1),
        (broken(made(5)), "violation", 1),
        (broken(made(5)), "interrupted", 1),
    ],
)
def test_the_exit_code_says_how_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: Measured, ended: str, code: int
) -> None:
    def soaked(folder: Path, into: Measured, file: Path) -> None:
        into.ended, into.contradictions = ended, measured.contradictions  # type: ignore[assignment]

    monkeypatch.setattr(soak, "soaked", soaked)
    arguments = ["--folder", str(tmp_path), "--report", str(tmp_path / "a.html"), "--seed", "3"]
    assert run(monkeypatch, *arguments) == code
