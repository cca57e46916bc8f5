"""Ctrl-C at a moment of our own choice."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

_ENDING = {signal.SIGINT, signal.SIGTERM}


@contextmanager
def uninterrupted() -> Iterator[None]:
    """A block that SIGINT and SIGTERM wait for, and that child processes begun in it do not see.

    Around what would be left half done: a question without its answer, a history half checked.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
