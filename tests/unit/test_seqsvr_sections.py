import pytest

from seqsvr.sections import Layout


@pytest.mark.parametrize(
    ("uid", "section"),
    [(0, 0), (99_999, 0), (100_000, 1), (2**32 - 1, 42_949)],
)
def test_a_uid_at_the_edge_of_a_section_falls_on_its_own_side(uid: int, section: int) -> None:
    assert Layout().section_of(uid) == section


def test_the_last_section_may_be_short() -> None:
    assert Layout(100, 250).sections == 3
    assert Layout(100, 300).sections == 3
    assert Layout(100, 301).sections == 4


@pytest.mark.parametrize("layout", [(0, 1), (2**32 + 1, 1), (1, 0), (1, 2**63 + 1)])
def test_a_layout_out_of_bounds_is_refused(layout: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="must be in"):
        Layout(*layout)
