"""What holders are told of promises, and how long their leases run, against plain lists.

FENCE-1, LEASE-1. Notices: every rise is kept here for ever, and a question is answered by looking
at all of them; the real index forgets and rewrites itself. Leases: the end of every grant is kept.
"""

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from storesvr import notices as storesvr_notices
from storesvr.leases import Leases
from storesvr.notices import Notices, merged

SECTIONS = 6
POINTS = st.dictionaries(st.integers(0, 20), st.integers(1, 3))


@pytest.fixture
def rewritten_soon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """So that a story of a few steps has several rewrites of the index in it."""
    monkeypatch.setattr(storesvr_notices, "_KEEP", 1)
    yield


class NoticesAgainstAList(RuleBasedStateMachine):
    """Versions may have holes: what was promised and lost in a crash is not added again."""

    def __init__(self) -> None:
        super().__init__()
        self.notices = Notices()
        self.rises: list[tuple[int, int, int]] = []  # version, section, epoch
        self.version = 0

    @rule(
        sections=st.lists(st.integers(0, SECTIONS - 1), min_size=1, max_size=4),
        hole=st.sampled_from([1, 1, 3]),
        step=st.integers(1, 2),
    )
    def promises_rise(self, sections: list[int], hole: int, step: int) -> None:
        for section in sections:
            self.version += hole
            epoch = step + max((e for _, s, e in self.rises if s == section), default=0)
            self.rises.append((self.version, section, epoch))
            self.notices.add(section, epoch, self.version)

    @invariant()
    def whoever_asks_is_told_of_every_later_rise_and_of_no_earlier_one(self) -> None:
        for since in range(self.version + 2):
            expected = {section: e for version, section, e in self.rises if version > since}
            assert expanded(self.notices.since(since)) == expected

    @invariant()
    def it_holds_at_most_two_entries_per_section(self) -> None:
        sections = {section for _, section, _ in self.rises}
        assert len(self.notices) <= 2 * len(sections) + storesvr_notices._KEEP


def test_notices_tell_what_a_list_of_all_rises_tells_fence_1(rewritten_soon: None) -> None:
    run_state_machine_as_test(
        NoticesAgainstAList, settings=settings(max_examples=100, stateful_step_count=20)
    )


@given(POINTS)
def test_merged_ranges_are_the_points_that_they_were_made_of(points: dict[int, int]) -> None:
    assert expanded(merged(sorted(points.items()))) == points


def expanded(ranges: list[tuple[int, int, int]]) -> dict[int, int]:
    """Point by point; ranges must be in order, and as long as they can be."""
    for (_, last, epoch), (first, _, next_epoch) in pairwise(ranges):
        assert last < first
        assert (last + 1, epoch) != (first, next_epoch), "two ranges where one would do"
    return {s: epoch for first, last, epoch in ranges for s in range(first, last + 1)}


class LeasesAgainstAList(RuleBasedStateMachine):
    @initialize(boot=st.integers(0, 50), grace=st.sampled_from([0, 30]))
    def begin(self, boot: int, grace: int) -> None:
        self.now = boot
        self.grace_end = boot + grace
        self.leases = Leases(boot_now_ns=boot, boot_grace_ns=grace)
        self.grants: list[tuple[int, int]] = []  # holder, end

    @rule(holder=st.integers(1, 4), ttl=st.integers(1, 30))
    def grant(self, holder: int, ttl: int) -> None:
        assert self.leases.grant(holder, ttl, self.now)
        self.grants.append((holder, self.now + ttl))

    @rule(passed=st.integers(0, 25))
    def time_passes(self, passed: int) -> None:
        self.now += passed

    @rule()
    def ask(self) -> None:
        """Asking forgets the dead: that must not show."""
        left = self.leases.left(self.now)
        assert dict(left) == self.alive()
        assert len(left) == len(dict(left))

    @invariant()
    def as_many_live_as_have_an_end_to_come_lease_1(self) -> None:
        assert self.leases.live(self.now) == len(self.alive())
        assert self.leases.grace_left_ns(self.now) == max(0, self.grace_end - self.now)

    def alive(self) -> dict[int, int]:
        """holder -> time left: by the latest of its ends."""
        latest: dict[int, int] = {}
        for holder, end in self.grants:
            latest[holder] = max(latest.get(holder, 0), end)
        return {holder: end - self.now for holder, end in latest.items() if end > self.now}


LeasesAgainstAList.TestCase.settings = settings(max_examples=100, stateful_step_count=25)
TestLeases = LeasesAgainstAList.TestCase
