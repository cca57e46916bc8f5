"""Fixtures of the end-to-end tests: whatever they start has ended when a test has."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from processes import Services


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """Makes services; none may have written a Traceback to its standard error."""
    made = Services(tmp_path)
    try:
        yield made
    finally:
        made.close()
    assert not made.traces()
