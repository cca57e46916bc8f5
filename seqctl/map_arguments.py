"""What arguments of commands on the map mean: each function parses one, for argparse."""

from argparse import ArgumentTypeError
from itertools import pairwise

from clustermap.model import check_name
from clustermap.ranges import SECTION_MAX, Range
from clustermap.spans import union
from seqctl.arguments import integer

MAX_CHUNK = 4_096
"""As many sections as one request to a replica may name."""


def name(text: str) -> str:
    """Of a Set, or of a job."""
    try:
        check_name("Set or a job", text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None
    return text


def sections(text: str) -> tuple[Range, ...]:
    """FIRST-LAST[,FIRST-LAST...], or single ones; in any order, but none twice."""
    found = sorted(_span(part.strip()) for part in text.split(","))
    for before, span in pairwise(found):
        if span.first <= before.last:
            raise ArgumentTypeError(f"section {span.first} is given twice")
    return tuple(union(found))


def chunk(text: str) -> int:
    """Sections that move together."""
    return integer(text, "chunk", 1, MAX_CHUNK)


def _span(text: str) -> Range:
    first, dash, last = text.partition("-")
    least = integer(first, "section", 0, SECTION_MAX)
    most = integer(last, "section", 0, SECTION_MAX) if dash else least
    if most < least:
        raise ArgumentTypeError(f"must be FIRST-LAST, sections by rising number, not {text!r}")
    return Range(least, most)
