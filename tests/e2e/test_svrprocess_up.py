"""`seqctl up` takes its options from the same four sources as the servers."""

import subprocess
import sys
from pathlib import Path

import pytest

from processes import ROOT, Services, environment, free_port
from processes.calls import plain
from processes.metrics import scrape


def test_a_file_says_what_no_flag_says(services: Services, tmp_path: Path) -> None:
    metrics = free_port()
    path = tmp_path / "up.toml"
    path.write_text(
        f'listen = "127.0.0.1:1"\nuid-limit = 500_000\nstep = 700\nsection_size = 1000\n'
        f'lease-ttl-s = 1\nmetrics = "127.0.0.1:{metrics}"\n'
    )
    service = services(uid_limit=20_000, options=["--config", str(path)]).start()
    with plain(service.address) as calls:
        assert calls.next(19_999) == 1
        assert calls.route().section_size == 1000
        assert calls.route().uid_limit == 20_000, "the flag"
    assert scrape(f"127.0.0.1:{metrics}").value("seqsvr_window_left") <= 700
    assert service.terminate() == 0


@pytest.mark.parametrize(
    ("text", "environ", "says"),
    [
        ("step = 0\n", {}, "step in "),
        ("steps = 1\n", {}, "unknown option 'steps'"),
        ("", {"SEQSVR_STEP": "none"}, "SEQSVR_STEP must be"),
        ("", {"SEQSVR_LISTEN": "nowhere"}, "SEQSVR_LISTEN must be HOST:PORT"),
        ("", {"SEQSVR_CONFIG": "/nowhere/up.toml"}, "cannot read /nowhere/up.toml"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_its_source(
    tmp_path: Path, text: str, environ: dict[str, str], says: str
) -> None:
    path = tmp_path / "up.toml"
    path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "seqctl", "up", "--data", str(tmp_path / "data")],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**environment(), "SEQSVR_CONFIG": str(path), **environ},
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("seqctl up: ") and says in line
    assert not (tmp_path / "data").exists()
