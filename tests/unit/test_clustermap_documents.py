"""Documents that were read before."""

import pytest

from clustermap.documents import SMALL, Fields, decode, encode
from clustermap.errors import MapCorrupt


class Builds:
    """Reads one field, and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    def read(self, fields: Fields) -> str:
        self.count += 1
        return fields.text("said")


def test_a_small_document_is_read_once_and_a_large_one_for_all_who_ask() -> None:
    builds = Builds()
    small, large = encode({"said": "x"}), encode({"said": "x" * SMALL})
    for _ in range(3):
        assert decode("it", small, builds.read) == "x"
    assert builds.count == 1
    for _ in range(3):
        assert decode("it", large, builds.read) == "x" * SMALL
    assert builds.count == 4


def test_what_was_refused_is_refused_again_and_other_readers_are_asked_themselves() -> None:
    raw = encode({"said": "x"})
    assert decode("it", raw, Builds().read) == "x"
    for _ in range(2):
        with pytest.raises(MapCorrupt, match="'other': said must be an integer"):
            decode("other", raw, lambda fields: fields.integer("said", 0, 1))
    broken = Builds()
    for _ in range(2):
        with pytest.raises(MapCorrupt, match="said is missing"):
            decode("it", encode({}), broken.read)
    assert broken.count == 2
