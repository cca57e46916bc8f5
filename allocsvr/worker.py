"""One of the processes of `allocsvr --workers K`: as allocsvr, but it ends with its parent."""

import sys
from collections.abc import Sequence

from allocsvr.__main__ import DESCRIPTION, OPTIONS, serve_node
from svrprocess import program


def main(argv: Sequence[str] | None = None) -> int:
    """Run until a signal, or until standard input ends; returns the exit code."""
    return program.main(
        "allocsvr", DESCRIPTION, OPTIONS, lambda args: serve_node(args, is_worker=True), argv
    )


if __name__ == "__main__":
    sys.exit(main())
