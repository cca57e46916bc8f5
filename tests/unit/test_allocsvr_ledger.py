"""What a node may answer: the four conditions, one by one. SEQ-1..SEQ-4, FENCE-1, LEASE-1."""

import pytest

from allocsvr.lease import Grants, Lease
from allocsvr.ledger import VECTOR_FROM, Answers, Ledger
from allocsvr.section import Section, State
from allocsvr.winning import ranges
from clustermap.membership import one_group
from seqsvr.invariants import BrokenInvariant
from seqsvr.sections import MAX_COUNT, UID_LIMIT, Layout

S = 10**9
SIZE = 100
LAST = UID_LIMIT // 100_000


class Node:
    """A ledger with a lease until 2 s, and sections raised to 100."""

    def __init__(self, layout: Layout | None = None, vector_from: int = VECTOR_FROM) -> None:
        self.layout = layout or Layout(SIZE, 10 * SIZE)
        lease = Lease(2 * S, 0.01)
        Grants(lease, one_group(1, 1)).granted(0, 0)
        self.ledger = Ledger(self.layout, lease, vector_from)
        self.hungry: list[int] = []

    def admit(self, id_: int, epoch: int = 5) -> Section:
        section = Section(
            id_,
            epoch,
            0,
            found=0,
            size=self.layout.section_size,
            step=100,
            on_hungry=lambda s: self.hungry.append(s.id),
            counters=self.ledger.counters,
        )
        self.ledger.admit(section)
        return section

    def serve(self, id_: int, epoch: int = 5) -> Section:
        section = self.admit(id_, epoch)
        self.ledger.raised(section, 100)
        return section

    def next(self, *uids: int, counts: list[int] | None = None, now_ns: int = S) -> Answers:
        return self.ledger.next_batch(uids, counts or [], now_ns)

    def why(self, uid: int, now_ns: int = S) -> str:
        """The reason for which both kinds of call are refused."""
        given = self.next(uid, now_ns=now_ns)
        asked = self.ledger.current_batch([uid], now_ns)
        assert given.failures == asked.failures
        assert (given.seqs, given.epochs, given.waiting) == ([0], [0], [])
        assert (asked.seqs, asked.epochs, asked.exact) == ([0], [0], [False])
        ((_, reason),) = given.failures
        return reason


@pytest.fixture(params=[1, VECTOR_FROM], ids=["batches as a whole", "entry by entry"])
def node(request: pytest.FixtureRequest) -> Node:
    return Node(vector_from=request.param)


def test_with_all_four_conditions_a_number_is_handed_out(node: Node) -> None:
    node.serve(3)
    answers = node.next(305, 306, 305)
    assert (answers.seqs, answers.epochs, answers.failures) == ([1, 1, 2], [5, 5, 5], [])
    answers = node.ledger.current_batch([305, 399], S)
    assert (answers.seqs, answers.exact, answers.epochs) == ([2, 0], [True, True], [5, 5])


def test_a_section_that_is_not_serving_stops_it(node: Node) -> None:
    assert node.why(305) == "NOT_OWNER"
    node.ledger.acquiring.add(3)
    assert node.why(305) == "ACQUIRING"
    section = node.admit(3)
    assert node.why(305) == "ACQUIRING"
    node.ledger.raised(section, 100)
    node.ledger.leave(section)
    assert node.why(305) == "DRAINING"
    node.ledger.lose(section)
    assert node.why(305) == "NOT_OWNER"


def test_a_lease_that_ran_out_stops_it_to_the_nanosecond_lease_1(node: Node) -> None:
    node.serve(3)
    deadline = node.ledger.lease.deadline_ns
    assert node.next(305, now_ns=deadline - 1).seqs == [1]
    assert node.why(305, deadline) == "LEASE_EXPIRED"
    node.ledger.why_lapsed = lambda: "STORE_UNAVAILABLE"
    assert node.why(305, deadline) == "STORE_UNAVAILABLE"
    Grants(node.ledger.lease, one_group(1, 1)).granted(0, 10 * S)
    assert node.next(305, now_ns=11 * S).seqs == [2]


def test_a_promise_above_the_epoch_stops_it_and_an_equal_one_does_not_fence_1(node: Node) -> None:
    section = node.serve(3)
    assert node.ledger.promise(0, 9, 5) == []
    assert node.next(305).seqs == [1]
    assert node.ledger.promise(0, 9, 6) == [section]
    assert node.why(305) == "NOT_OWNER"
    assert section.state is State.LOST


def test_a_used_up_window_makes_an_entry_wait_and_fails_nothing(node: Node) -> None:
    node.serve(3)
    answers = node.next(305, 306, 305, counts=[100, 1, 1])
    assert (answers.seqs, answers.waiting, answers.failures) == ([1, 1, 0], [2], [])
    assert answers.epochs == [5, 5, 0]
    assert node.hungry == [3]


def test_a_sticky_promise_outlives_the_later_success_of_an_older_raise(node: Node) -> None:
    for serve in (node.serve, node.admit):
        section = serve(3)
        node.ledger.promise(3, 3, 6)
        node.ledger.raised(section, 10_000)
        assert not section.serving
        assert node.why(305) == "NOT_OWNER"
        node.ledger.promises._highest.clear()


def test_a_section_above_the_promise_is_kept(node: Node) -> None:
    section = node.serve(3, epoch=9)
    assert node.ledger.promise(3, 3, 8) == []
    assert section.serving


def test_a_section_kept_past_a_promise_would_be_a_broken_invariant(node: Node) -> None:
    node.ledger.promise(3, 3, 6)
    section = node.admit(3)
    with pytest.raises(BrokenInvariant):
        node.ledger.raised(section, 100)
    with pytest.raises(BrokenInvariant):
        node.ledger.admit(node.serve(4))


def test_an_older_section_that_ends_does_not_take_its_successor_along(node: Node) -> None:
    old = node.serve(3, epoch=5)
    new = node.serve(3, epoch=7)
    node.ledger.lose(old)
    assert node.ledger.sections[3] is new
    assert node.next(305).epochs == [7]


def test_a_section_that_leaves_never_serves_again_whatever_raise_succeeds(node: Node) -> None:
    for make in (node.serve, node.admit):
        section = make(3)
        node.ledger.leave(section)
        node.ledger.raised(section, 10_000)
        assert not section.serving
        assert node.why(305) == "DRAINING"


def test_a_uid_of_a_batch_never_gets_a_lower_number_behind_one_that_waits(node: Node) -> None:
    """The second entry would fit into the window; the first, which came before it, waits."""
    section = node.serve(3)
    answers = node.next(305, 305, 306, 305, counts=[101, 1, 1, 1])
    assert (answers.seqs, answers.waiting) == ([0, 0, 1, 0], [0, 1, 3])
    assert section.current(5) == (0, True)


def test_an_exhausted_entry_does_not_hold_up_later_ones_of_its_uid(node: Node) -> None:
    section = node.serve(3)
    section.seq_limit = 100
    answers = node.next(305, 305, counts=[101, 100])
    assert (answers.seqs, answers.failures) == ([0, 1], [(0, "SEQUENCE_EXHAUSTED")])


@pytest.mark.parametrize("uid", [2**32, 2**63, 2**64 - 1])
def test_a_uid_at_or_above_the_limit_is_refused_before_any_work(uid: int) -> None:
    node = Node(Layout())
    node.serve(LAST)
    assert node.why(uid) == "UID_OUT_OF_RANGE"
    answers = node.next(uid, 2**32 - 1, counts=[0, 1])
    assert (answers.seqs, answers.failures) == ([0, 1], [(0, "UID_OUT_OF_RANGE")])


def test_the_last_section_is_short_and_all_its_uids_are_served() -> None:
    node = Node(Layout())
    section = node.serve(LAST)
    assert node.next(2**32 - 1, LAST * 100_000, 2**32 - 1).seqs == [1, 1, 2]
    assert section.current((2**32 - 1) % 100_000) == (2, True)


@pytest.mark.parametrize(("limit", "uid"), [(2**63, 2**63 - 1), (2**32, 2**32 - 1), (1, 0)])
def test_the_greatest_uid_of_any_layout_is_served(limit: int, uid: int) -> None:
    node = Node(Layout(100_000, limit))
    node.serve(node.layout.sections - 1)
    assert node.next(uid).seqs == [1]
    assert node.why(limit) == "UID_OUT_OF_RANGE"


@pytest.mark.parametrize("count", [0, MAX_COUNT + 1, 2**32 - 1])
def test_a_count_out_of_range_is_refused_and_takes_nothing(node: Node, count: int) -> None:
    section = node.serve(3)
    answers = node.next(305, 305, counts=[count, 1])
    assert (answers.seqs, answers.failures) == ([0, 1], [(0, "COUNT_OUT_OF_RANGE")])
    assert section.highest() == 1
    assert node.hungry == []


def test_bounds_are_said_also_where_nothing_is_served(node: Node) -> None:
    answers = node.next(305, 10**9, counts=[0, 1], now_ns=10**18)
    assert answers.failures == [(0, "COUNT_OUT_OF_RANGE"), (1, "UID_OUT_OF_RANGE")]


def advanced(
    node: Node, *pairs: tuple[int, int], max_jump: int = 10**6, now_ns: int = S
) -> Answers:
    uids, floors = [uid for uid, _ in pairs], [floor for _, floor in pairs]
    return node.ledger.advance_batch(uids, floors, max_jump, now_ns)


def test_entries_of_an_advance_are_answered_each_for_itself(node: Node) -> None:
    node.serve(3)
    assert node.next(307, counts=[40]).seqs == [1]
    pairs = [(305, 30), (307, 30), (306, 0), (305, 500), (405, 1), (1000, 1), (308, 10**7)]
    answers = advanced(node, *pairs)
    assert answers.seqs == [30, 40, 0, 0, 0, 0, 0]
    assert answers.epochs == [5, 5, 5, 0, 0, 0, 0]
    assert answers.waiting == [3]
    reasons = [(4, "NOT_OWNER"), (5, "UID_OUT_OF_RANGE"), (6, "JUMP_TOO_LARGE")]
    assert answers.failures == reasons
    assert answers.bounds == {6: 10**6}
    assert node.next(305, 306).seqs == [31, 1]


def test_a_jump_is_counted_from_where_the_uid_stands(node: Node) -> None:
    node.serve(3)
    assert advanced(node, (305, 40), max_jump=40).seqs == [40]
    assert advanced(node, (305, 80), max_jump=40).seqs == [80]
    assert advanced(node, (305, 90), max_jump=9).bounds == {0: 89}
    assert advanced(node, (305, 80), max_jump=0).seqs == [80]


def test_an_advance_needs_all_that_a_number_needs(node: Node) -> None:
    """LEASE-1, FENCE-1: or it would be said of a uid that is somebody else's."""
    section = node.serve(3)
    deadline = node.ledger.lease.deadline_ns
    assert advanced(node, (305, 40), now_ns=deadline).failures == [(0, "LEASE_EXPIRED")]
    node.ledger.leave(section)
    assert advanced(node, (305, 40)).failures == [(0, "DRAINING")]
    assert section.current(5) == (0, True)


def test_current_never_allocates_seq_4(node: Node) -> None:
    section = node.serve(3)
    for _ in range(3):
        assert node.ledger.current_batch([305] * 5, S).seqs == [0] * 5
    assert not section.touched
    node.next(305, counts=[7])
    assert node.ledger.current_batch([305, 305], S).seqs == [7, 7]
    assert node.next(305).seqs == [8]


def test_a_draining_node_says_so_for_sections_it_has_given_up(node: Node) -> None:
    section = node.serve(3)
    node.ledger.draining = True
    node.ledger.wanted = {3}  # the map does not know yet
    node.ledger.lose(section)
    assert node.why(305) == "DRAINING"
    node.ledger.wanted = set()
    assert node.why(305) == "NOT_OWNER"


def test_what_is_ours_by_the_map_and_lost_is_said_to_be_on_its_way(node: Node) -> None:
    section = node.serve(3)
    node.ledger.wanted = {3}
    assert node.ledger.promise(3, 3, 6) == [section]
    assert node.why(305) == "ACQUIRING"
    node.ledger.wanted = set()
    assert node.why(305) == "NOT_OWNER"


def test_adjacent_sections_of_one_epoch_make_one_range() -> None:
    assert list(ranges([])) == []
    assert list(ranges([(0, 1)])) == [(0, 0, 1)]
    found = list(ranges([(0, 5), (1, 5), (2, 6), (4, 6), (5, 6), (6, 5), (9, 5)]))
    assert found == [(0, 1, 5), (2, 2, 6), (4, 5, 6), (6, 6, 5), (9, 9, 5)]
    assert len(list(ranges((s, 1) for s in range(1000)))) == 1


@pytest.mark.parametrize("vector_from", [1, VECTOR_FROM])
def test_a_short_last_section_ends_at_the_limit(vector_from: int) -> None:
    node = Node(Layout(SIZE, 250), vector_from)
    node.serve(1)
    node.serve(2)
    assert node.next(249, 150).seqs == [1, 1]
    for beyond in (250, 299, 300, 2**63, 2**64 - 1):
        assert node.next(150, beyond).failures == [(1, "UID_OUT_OF_RANGE")]
