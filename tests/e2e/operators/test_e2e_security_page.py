"""What docs/SECURITY.md tells, followed word by word."""

import os
import re
import subprocess
import sys
from pathlib import Path

from processes import ROOT, environment

PAGE = ROOT / "docs" / "SECURITY.md"
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
SMALL = {"SEQSVR_UID_LIMIT": "10000", "SEQSVR_SECTION_SIZE": "1000"}


def commands() -> list[str]:
    lines = [line for block in BLOCK.findall(PAGE.read_text()) for line in block.splitlines()]
    assert len(lines) > 15 and all(line.startswith("$ ") for line in lines)
    return [line.removeprefix("$ ") for line in lines]


def test_what_the_page_tells_works_word_by_word(tmp_path: Path) -> None:
    """Also that what is to be refused (`! ...`) is, and for the reason that is told."""
    shell = ["set -m", "ip link set lo up"]
    for line in commands():
        shell += [f"echo {quoted(line)}", f"{line} || {{ echo failed; exit 1; }}"]
        if line.startswith("! "):
            shell[-1] = f"if {line[2:]}; then echo it was not refused; exit 1; fi"
        elif line.startswith("wait") or line.endswith("&"):
            shell[-1] = line
    (tmp_path / "followed").write_text("\n".join(shell) + "\n")
    # Its ports are its own, and whatever it leaves behind ends with it.
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    alone = ["unshare", *user, "--net", "--pid", "--fork", "--kill-child"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [*alone, "bash", "followed"],
        env={**environment(), **SMALL, "PATH": path},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-6000:] + logs(tmp_path)
    said = answers(done.stdout)
    for line, answer in ANSWERS.items():
        (found,) = (text for command, text in said.items() if re.fullmatch(line, command))
        assert answer in found, f"{line}: {found}"
    assert sum(command.startswith("! ") for command in said) == 4, "and each is told why, above"


ALLOCATOR, READER = (
    f"--cert certs/{role}.crt --key certs/{role}.key" for role in ("allocator", "reader")
)
ANSWERS = {
    f"seqctl next 42 {ALLOCATOR}": "1001",  # the second time, once 1000 was the floor
    f"seqctl current 42 {READER}": "42    1     yes",
    "! seqctl next 42": "does it accept our certificate?",
    f"! seqctl next 42 {READER}": "reader has no role for",
    f"! seqctl advance 42 .* {ALLOCATOR}": "allocator has no role for",
    "seqctl advance 42 .*operator.key": "uid 42 rose from 1 to 1000",
    "seqctl next 42 .* --token-file token": "1",
    "! seqctl next 4711 .* --token-file token": "uid 4711 is outside",
}


def answers(said: str) -> dict[str, str]:
    """Command -> what it printed, the last time that it was run."""
    found = re.findall(r"^\+ (.*)\n((?:(?!\+ ).*\n)*)", said, re.MULTILINE)
    return {command: output.strip() for command, output in found}


def logs(folder: Path) -> str:
    return "".join(f"\n{path.name}: {path.read_text()[-2000:]}" for path in folder.glob("*.log"))


def quoted(line: str) -> str:
    return "'+ " + line.replace("'", "'\\''") + "'"
