"""Runs a module as a program, with uvloop or without it.

python -m seqbench.on_loop {asyncio|uvloop} MODULE [ARGUMENT]...
"""

import asyncio
import runpy
import sys
from typing import Any


def choose(loop: str) -> None:
    """From now on `asyncio.run` takes this loop, whatever the program would choose by itself."""
    if loop == "asyncio":
        modules: dict[str, Any] = sys.modules
        modules["uvloop"] = None  # an import of it fails, as where it is not installed
    else:
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())


def main() -> None:
    _, loop, module, *arguments = sys.argv
    choose(loop)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
