"""Bytes of Hypothesis's choosing for every target of tests/fuzzing: it shrinks what it finds."""

import logging
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzzing.mutate import mutated
from fuzzing.targets import TARGETS
from seqsvr.escaping import escaped

_ROLLS = st.randoms(use_true_random=False)


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(before)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_any_bytes_and_any_changes_of_good_ones_are_answered_as_documented(name: str) -> None:
    target = TARGETS[name]
    corpus = target.corpus()

    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.binary(max_size=300) | _ROLLS.map(lambda rng: mutated(rng, corpus)))
    def holds(data: bytes) -> None:
        target.run(data)

    holds()


@given(st.text(st.characters()))
def test_escaped_text_is_printable_and_what_was_printable_is_the_same(text: str) -> None:
    shown = escaped(text)
    assert shown.isprintable()
    assert escaped(shown) == shown
    assert shown == text or not text.isprintable()
