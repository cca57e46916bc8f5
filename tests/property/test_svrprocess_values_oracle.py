"""Values of options, out of any text, and what is made of errors.

Whatever text is given is either refused with what it must be, or taken for just what it says.
"""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svrprocess.failures import leaves, one_line
from svrprocess.values import (
    ADDRESSES,
    LISTEN,
    MAX_PORT,
    OPTIONAL_LISTEN,
    PATH,
    REACHED,
    SWITCH,
    TEXT,
    Kind,
    choice,
    integer,
    number,
    seconds,
    split,
)

TEXTS = st.one_of(
    st.text(max_size=8),
    st.text("0123456789.:,-+einfaINFA[] _", max_size=8),
    st.integers(-12, 70_000).map(str),
    st.floats().map(str),
)
HOSTS = st.sampled_from(["a", "10.0.0.1", "[::1]", "::1", "", "[", "[]", "a:b", "[a", "a]"])
ADDRESS = st.builds(
    lambda host, colon, port: f"{host}{colon}{port}",
    HOSTS,
    st.sampled_from([":", "", "::"]),
    st.one_of(TEXTS, st.integers(0, 70_000).map(str)),
)


def parsed(kind: Kind, text: str) -> object:
    """What it is read as, or the ValueError that says what it must be."""
    try:
        return kind.parse(text)
    except ValueError as error:
        assert str(error).startswith("must "), "it follows the name of its source"
        return error


@settings(max_examples=200)
@given(TEXTS, st.integers(0, 9), st.integers(0, 70_000))
def test_an_integer_is_what_its_digits_say_or_refused(text: str, least: int, room: int) -> None:
    read = parsed(integer(least, least + room), text)
    digits = text != "" and all(letter in "0123456789" for letter in text)
    if digits and least <= int(text) <= least + room:
        assert read == int(text)
    else:
        assert isinstance(read, ValueError)


@settings(max_examples=200)
@given(TEXTS, st.floats(0, 9), st.floats(0, 1e6))
def test_a_number_is_finite_and_in_its_bounds_or_refused(
    text: str, least: float, room: float
) -> None:
    for kind in (number(least, least + room), seconds(least, least + room)):
        read = parsed(kind, text)
        if isinstance(read, float):
            assert math.isfinite(read) and least <= read <= least + room
            assert read == float(text)
        else:
            assert isinstance(read, ValueError)
    exact = parsed(number(least, least + room), repr(least))
    assert exact == least


@given(TEXTS)
def test_words_and_switches_are_those_that_are_known(text: str) -> None:
    read = parsed(choice("a", "1"), text)
    assert read == text if text in ("a", "1") else isinstance(read, ValueError)
    on, off = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}
    switched = parsed(SWITCH, text.upper())
    if isinstance(switched, bool):
        assert text.upper().lower() in (on if switched else off)
    else:
        assert text.upper().lower() not in on | off
    for kind in (TEXT, PATH):
        if "\0" in text:
            with pytest.raises(ValueError, match="must have no NUL"):
                kind.parse(text)
        else:
            assert kind.parse(text) == text


@settings(max_examples=300)
@given(ADDRESS)
def test_an_address_is_a_host_and_a_port_or_refused(text: str) -> None:
    try:
        host, port = split(text)
    except ValueError as error:
        assert "HOST:PORT" in str(error) or "port" in str(error)
        assert isinstance(parsed(LISTEN, text), ValueError)
    else:
        assert text.startswith(f"{host}:") and int(text[len(host) + 1 :]) == port <= MAX_PORT
        assert (":" in host) == (host.startswith("[") and ":" in host[1:-1])
        assert LISTEN.parse(text) == OPTIONAL_LISTEN.parse(text) == text
        reached = parsed(REACHED, text)
        assert reached == text if port else isinstance(reached, ValueError)
        assert (parsed(ADDRESSES, text) == (text,)) == (port > 0 and "," not in text)
    assert OPTIONAL_LISTEN.parse("") == REACHED.parse("") == ""


@given(st.lists(st.sampled_from(["a:1", "[::1]:2", "b:3", "a:0", "a", ""]), min_size=1))
def test_addresses_are_all_taken_or_all_refused(parts: list[str]) -> None:
    read = parsed(ADDRESSES, " , ".join(parts))
    if set(parts) <= {"a:1", "[::1]:2", "b:3"}:
        assert read == tuple(parts)
    else:
        assert isinstance(read, ValueError)


# -- failures

TREES = st.recursive(
    st.integers(0, 9).map(lambda i: ValueError(str(i))),
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda es: ExceptionGroup("g", es)),
    max_leaves=6,
)


@given(TREES, st.text())
def test_what_was_raised_is_found_in_any_nest_of_groups(error: Exception, text: str) -> None:
    def count(one: BaseException) -> int:
        inner = one.exceptions if isinstance(one, BaseExceptionGroup) else None
        return 1 if inner is None else sum(count(each) for each in inner)

    found = leaves(error)
    assert len(found) == count(error)
    assert not any(isinstance(each, BaseExceptionGroup) for each in found)
    shown = one_line(text)
    assert len(shown.splitlines()) <= 1
    assert shown.isprintable()
    for word, as_shown in zip(text.split(), shown.split(), strict=True):
        assert as_shown == word if word.isprintable() else "\\" in as_shown
