"""Generates the wire code from the .proto files into client/seqsvr/v1, which is committed.

--check regenerates into a scratch directory and fails where the committed code differs.
"""

import filecmp
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
PACKAGE = Path("seqsvr/v1")


def generate(out: Path) -> None:
    sources = sorted(str(p) for p in (PROTO / PACKAGE).glob("*.proto"))
    well_known = str(files("grpc_tools") / "_proto")
    arguments = ["protoc", f"-I{PROTO}", f"-I{well_known}"]
    arguments += [f"--python_out={out}", f"--pyi_out={out}", f"--grpc_python_out={out}"]
    if protoc.main([*arguments, *sources]) != 0:
        raise SystemExit("protoc failed")


def names(directory: Path) -> set[str]:
    return {p.name for p in directory.glob("*_pb2*") if p.is_file()}


def main() -> None:
    committed = ROOT / "client" / PACKAGE
    if sys.argv[1:] != ["--check"]:
        generate(ROOT / "client")
        return
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh = Path(scratch) / PACKAGE
        every = sorted(names(fresh) | names(committed))
        _, differ, missing = filecmp.cmpfiles(fresh, committed, every, shallow=False)
        if differ or missing:
            raise SystemExit(f"generated code is stale, run make gen: {differ + missing}")


if __name__ == "__main__":
    main()
