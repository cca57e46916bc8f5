"""A copy of the packages in a directory of its own, in which a bug can be planted.

Programs in it are started with the copy in front of everything else that Python looks at, so that
neither the checkout nor what is installed is imported; hunt.py looks whether that came true.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from simsvr.mutants.patches import Mutant

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "client/seqsvr",
    "clustermap",
    "svrprocess",
    "storesvr",
    "allocsvr",
    "arbitersvr",
    "seqcheck",
    "simsvr",
)


@contextmanager
def scratch(mutant: Mutant | None) -> Iterator[Path]:
    """A copy with the bug in it (None: without any), gone at the end. Raises DoesNotApply."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        copy = Path(name).resolve()
        for package in PACKAGES:
            leave = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / package, copy / package, ignore=leave)
        if mutant is not None:
            plant(mutant, copy)
        yield copy


def plant(mutant: Mutant, root: Path) -> None:
    """Write the bug into the packages at `root`. Raises DoesNotApply."""
    for hunk in mutant.hunks:
        path = root / hunk.path
        path.write_text(hunk.applied(path.read_text()))


def start(copy: Path, module: str, args: Sequence[str]) -> "subprocess.Popen[str]":
    """`python -m module args` in the copy, its output to be read."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(copy), str(copy / "client")]),
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", module, *args]
    return subprocess.Popen(command, cwd=copy, env=environment, stdout=subprocess.PIPE, text=True)
