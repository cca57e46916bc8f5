"""The software as it was: an earlier commit's wheel, unpacked, and processes that run it."""

import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

from processes import ROOT
from real_cluster.program import Program, surroundings

_WHERE = """
import allocsvr, arbitersvr, seqsvr, storesvr
for package in (allocsvr, arbitersvr, seqsvr, storesvr):
    print(package.__path__[0].rpartition("/")[0])
"""


def unpacked(commit: str, folder: Path) -> Path:
    """Where the packages of the wheel of `commit` lie. AssertionError where it cannot be had."""
    folder.mkdir(parents=True)
    source, wheels, packages = (folder / name for name in ("source", "wheels", "packages"))
    source.mkdir()
    archive = folder / "source.tar"
    _run(["git", "archive", "--output", archive, commit], ROOT)
    _run(["tar", "--extract", "--file", archive], source)
    _run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", wheels], source)
    [wheel] = wheels.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(packages)
    found = _run([sys.executable, "-P", "-c", _WHERE], folder, environment(packages))
    assert found.split() == [str(packages)] * 4, f"another version would run: {found}"
    return packages


def environment(packages: Path) -> dict[str, str]:
    """Of a process that is to run the code in `packages`, if it is started with -P, too."""
    return {**surroundings(), "PYTHONPATH": f"{packages}:{ROOT / 'tests'}"}


def runs(program: Program, packages: Path | None) -> None:
    """From its next start on it runs the code in `packages`, None: the code of this checkout.

    -P: what lies in the working directory is not looked at.
    """
    python, *rest = [word for word in program.command if word != "-P"]
    program.command = [python, "-P", *rest] if packages else [python, *rest]
    program.environ.update(environment(packages) if packages else surroundings())


def _run(command: list[object], folder: Path, environ: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout
