"""Changes of owner, read from the routes that several callers saw."""

from real_cluster.ownership import Ownership, Sighting

NAMES = {"a:1": "A", "b:1": "B"}


def test_a_change_says_what_each_node_holds_gained_and_lost() -> None:
    ownership = Ownership(NAMES)
    seen = [
        Sighting(1.0, 1, [(0, 9, "a:1"), (10, 19, "b:1")]),
        Sighting(2.0, 2, [(0, 3, "a:1"), (4, 19, "b:1")]),
    ]
    first, second = ownership.changes(seen)
    assert (first.sections, first.gained, first.lost) == ({"A": 10, "B": 10}, {}, {})
    assert (second.at_s, second.sections) == (2.0, {"A": 4, "B": 16})
    assert (second.gained, second.lost) == ({"B": 6}, {"A": 6})


def test_sections_of_nobody_are_lost_and_nobodys_gain() -> None:
    ownership = Ownership(NAMES)
    ownership.changes([Sighting(1, 1, [(0, 9, "a:1")])])
    [change] = ownership.changes([Sighting(2, 2, [(0, 4, "a:1")])])
    assert (change.gained, change.lost) == ({}, {"A": 5})


def test_a_version_counts_once_at_the_time_when_the_first_has_seen_it() -> None:
    ownership = Ownership(NAMES)
    old, new = [(0, 9, "a:1")], [(0, 9, "b:1")]
    seen = [Sighting(5.0, 2, new), Sighting(1.0, 1, old), Sighting(4.0, 2, new)]
    assert [one.at_s for one in ownership.changes(seen)] == [1.0, 4.0]
    assert not ownership.changes([Sighting(6.0, 1, old), Sighting(7.0, 3, new)])
