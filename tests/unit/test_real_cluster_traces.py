"""A Traceback in a log that grows is found once, wherever the reading was cut off."""

from pathlib import Path

import pytest

from real_cluster.traces import Traces


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_traceback_is_found_however_the_log_was_cut_when_it_was_read(
    tmp_path: Path, cut: int
) -> None:
    text = "all is well\nTraceback (most recent call last):\n  KeyError\n"
    log, traces = tmp_path / "node-0-001.err", Traces(tmp_path, ["node-0"])
    log.write_text(text[:cut])
    first = traces.found()
    log.write_text(text)
    found = first or traces.found()
    assert "Traceback" in found and "node-0-001.err" in found


def test_each_run_of_a_program_is_read_and_other_files_are_not(tmp_path: Path) -> None:
    traces = Traces(tmp_path, ["node-0"])
    (tmp_path / "load.err").write_text("Traceback")
    (tmp_path / "node-0-001.err").write_text("fine\n")
    assert not traces.found()
    (tmp_path / "node-0-002.err").write_text("Traceback\n")
    assert traces.found().startswith("node-0-002.err")
