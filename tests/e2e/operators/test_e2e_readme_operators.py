"""What README tells operators, followed word by word, on a cluster started as README says."""

import os
import re
import subprocess
import sys
from pathlib import Path

from processes import ROOT, environment

SECTION = re.compile(r"^## Operating it\n(.*?)^## ", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
SMALL = {"SEQSVR_UID_LIMIT": "100000", "SEQSVR_SECTION_SIZE": "1000"}
"""So that it takes seconds; README's own cluster has all 42,950 sections."""

CLUSTER = """
ip link set lo up
cd "$1"
"$2" "$3"/examples/local-cluster/cluster.py --data data-cluster --section-size 1000 \\
    --uid-limit 100000 > ready 2> complaints &
cluster=$!
until grep -q ^ready ready; do kill -0 $cluster || { cat complaints >&2; exit 1; }; sleep 0.1; done
bash -e followed > said 2>&1 || { cat said; exit 1; }
cat said
kill $cluster
wait $cluster
"""


def commands() -> list[str]:
    found = SECTION.search((ROOT / "README.md").read_text())
    assert found, "README has no section for operators"
    lines = [line for block in BLOCK.findall(found[1]) for line in block.splitlines()]
    assert len(lines) > 20 and all(line.startswith("$ ") for line in lines)
    return [line.removeprefix("$ ") for line in lines]


def test_what_readme_tells_operators_works_word_by_word(tmp_path: Path) -> None:
    own = [line for line in commands() if not line.startswith("export PATH=")]
    shell = ["set -m", *(f"echo {quoted(line)}\n{line}" for line in own), "kill %1 %2", "wait"]
    (tmp_path / "followed").write_text("\n".join(shell) + "\n")
    # Its ports are its own, and whatever it leaves behind ends with it.
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    alone = ["unshare", *user, "--net", "--pid", "--fork", "--kill-child"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [*alone, "bash", "-c", CLUSTER, "-", tmp_path, sys.executable, ROOT],
        env={**environment(), **SMALL, "PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    said = done.stdout
    assert done.returncode == 0, said[-6000:] + done.stderr[-2000:]
    print(said)
    numbers = re.findall(r"^\+ seqctl next 42\n(.*)$", said, re.MULTILINE)
    assert [int(re.findall(r"\d+", line)[-1]) for line in numbers] == [5001, 5002], "dense"


def quoted(line: str) -> str:
    return "'+ " + line.replace("'", "'\\''") + "'"
