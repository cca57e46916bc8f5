"""The checkers that follow a run, beside oracles that look at the whole story again every time."""

from dataclasses import dataclass
from itertools import combinations, count
from typing import Any

from hypothesis import assume, event, example, given
from hypothesis import strategies as st

from made_calls import UID, current, handout
from seqcheck import Current, Dense, Durable, Fencing, HandedOut, NeverFalls, OneOwner, Order
from seqcheck.calls import Call
from seqcheck.history import current_is_whole, current_keeps_order, order, uniqueness

REPLICAS = ("a", "b", "c")
N, R, W = 3, 2, 2
SECTION = 1
small = st.integers(1, 4)
replicas = st.sampled_from(REPLICAS)


def stories(*steps: st.SearchStrategy[Any], most: int = 14) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.one_of(*steps), max_size=most)


def step(name: str, *values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.tuples(st.just(name), *values)


# -- SEQ-2: the numbers as a set


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 6), st.integers(1, 2)), max_size=25))
def test_numbers_handed_out_twice_are_those_in_a_set_already(
    story: list[tuple[int, int, int]],
) -> None:
    checker, out = HandedOut(), set[int]()
    for at_ns, (first, size, epoch) in enumerate(story):
        numbers = set(range(first, first + size))
        violation = checker.handed(at_ns, UID, first, size, 1, epoch)
        assert (violation is not None) == bool(out & numbers)
        out |= numbers
        assert [checker.holds(UID, n) for n in range(40)] == [n in out for n in range(40)]
        assert checker.last(UID) == max(out)


# -- SEQ-3: every replica's values, looked through


@given(stories(step("stored", replicas, small), step("lost", replicas), step("handed", small)))
def test_a_number_is_covered_if_w_replicas_ever_had_as_much(story: list[Any]) -> None:
    checker = Durable()
    for at_ns, (what, *about) in enumerate(story):
        if what == "stored":
            checker.stored(at_ns, about[0], SECTION, about[1])
        elif what == "lost":
            checker.lost(at_ns, about[0])
        else:
            stored = [past for past in story[:at_ns] if past[0] == "stored"]
            had = {replica for _, replica, max_seq in stored if max_seq >= about[0]}
            assert (checker.handed(at_ns, SECTION, about[0], W) is None) == (len(had) >= W)


# -- SEQ-5: a service that is correct, and one number of it changed


@dataclass
class Service:
    """One section of ten uids, served by one owner after the other."""

    events: list[tuple[Any, ...]]
    stood: dict[int, int]
    base: int = 0
    reached: int = 0
    epoch: int = 0
    shown: bool = False

    def began(self, planned: bool, jump: int) -> None:
        planned = planned and self.epoch > 0
        self.epoch += 1
        if not planned:
            self.base = self.reached = self.reached + jump
            self.stood, self.shown = {}, False
        self.events.append(("began", self.epoch, self.reached + 3, planned))

    def handed(self, uid: int, size: int) -> None:
        stood = self.stood.get(uid, self.base)
        free = not self.shown  # it shows the base, which may also be lower
        self.shown = True
        self.stood[uid] = stood + size
        self.reached = max(self.reached, stood + size)
        self.events.append(("handed", self.epoch, uid, stood + 1, size, free))


@st.composite
def served(draw: st.DrawFn) -> list[tuple[Any, ...]]:
    service = Service([], {})
    service.began(False, draw(st.integers(0, 5)))
    for _ in range(draw(st.integers(0, 20))):
        if draw(st.integers(0, 4)):
            service.handed(draw(st.integers(0, 3)), draw(small))
        else:
            service.began(draw(st.booleans()), draw(st.integers(0, 5)))
    return service.events


def dense(events: list[tuple[Any, ...]]) -> bool:
    checker = Dense(section_size=10)
    for at_ns, (what, epoch, *about) in enumerate(events):
        if what == "began":
            checker.began(at_ns, SECTION, 7, epoch, *about)
        else:
            uid, first, size, _ = about
            checker.handed(at_ns, SECTION * 10 + uid, first, size, 7, epoch)
    return not checker.violations


@given(served())
def test_a_service_without_holes_raises_no_alarm(events: list[tuple[Any, ...]]) -> None:
    assert dense(events)


@given(served(), st.data())
def test_any_number_that_is_changed_in_it_is_noticed(
    events: list[tuple[Any, ...]], data: st.DataObject
) -> None:
    places = [at for at, e in enumerate(events) if e[0] == "handed" and not e[-1]]
    assume(places)
    at = data.draw(st.sampled_from(places))
    what, epoch, uid, first, size, free = events[at]
    by = data.draw(st.sampled_from([-2, -1, 1, 2, 50]))
    events[at] = (what, epoch, uid, max(1, first + by), size, free)
    assume(events[at][3] != first)
    assert not dense(events)


# -- NRW-1: every raise and every loss, counted again


@given(
    stories(
        step("stored", replicas, small),
        step("lost", replicas),
        step("acknowledged", small),
        step("survivors", st.dictionaries(replicas, st.integers(0, 4))),
    )
)
@example(
    [("stored", "a", 1), ("lost", "a"), ("stored", "b", 1), ("acknowledged", 1), ("survivors", {})]
)
def test_raises_that_must_have_survived_are_found_by_counting_losses(story: list[Any]) -> None:
    checker = NeverFalls(n=N, w=W)
    for at_ns, (what, *about) in enumerate(story):
        past = story[:at_ns]
        if what == "stored":
            fell = about[1] < held(past, about[0])
            assert (checker.stored(at_ns, about[0], SECTION, about[1]) is not None) == fell
        elif what == "lost":
            checker.lost(at_ns, about[0])
        elif what == "acknowledged":
            bad = len(ever(past, about[0])) < W
            assert (checker.acknowledged(at_ns, SECTION, 1, about[0]) is not None) == bad
        else:
            found = checker.survivors(at_ns, {name: {SECTION: v} for name, v in about[0].items()})
            event(f"survivors: {found is None}")
            best = max(about[0].values(), default=0)
            assert (found is not None) == any(best < v for v in binding(past))


def held(story: list[Any], replica: str) -> int:
    """What a replica held at the end of the story."""
    value = 0
    for what, *about in story:
        if what in ("stored", "lost") and about[0] == replica:
            value = about[1] if what == "stored" else 0
    return value


def ever(story: list[Any], max_seq: int) -> set[str]:
    return {past[1] for past in story if past[0] == "stored" and past[2] >= max_seq}


def binding(story: list[Any]) -> list[int]:
    """Every acknowledged raise with at most N - W of the replicas lost that should know it."""
    found = []
    for at, (what, *about) in enumerate(story):
        if what != "acknowledged" or len(ever(story[:at], about[0])) < W:
            continue
        gone = {r for r in ever(story[:at], about[0]) if held(story[:at], r) < about[0]}
        later = {past[1] for past in story[at:] if past[0] == "lost"}
        if len(gone | later) <= N - W:
            found.append(about[0])
    return found


# -- FENCE-1: every set of W against every set of R


@given(stories(step("promised", replicas, small), step("acked", replicas, small)))
def test_a_fence_is_broken_where_some_w_and_some_r_have_nobody_who_carried_it(
    story: list[Any],
) -> None:
    checker = Fencing(n=N, r=R, w=W)
    for at_ns, (what, replica, epoch) in enumerate(story):
        if what == "promised":
            fell = epoch < promise(story[:at_ns], replica)
            assert (checker.promised(at_ns, replica, SECTION, epoch) is not None) == fell
            continue
        violation = checker.acked(at_ns, replica, SECTION, epoch, 1, 100)
        told = story[: at_ns + 1]
        carried = replica in carriers(told, epoch)
        below = promise(story[:at_ns], replica) > epoch and not carried
        broken = overtaken(told, epoch)
        event(f"below: {below}, overtaken: {broken}")
        assert checker.violations or not broken  # somebody had to acknowledge below its promise
        assert (violation is not None) == (below or broken)


def promise(story: list[Any], replica: str) -> int:
    return max((e for what, r, e in story if (what, r) == ("promised", replica)), default=0)


def carriers(story: list[Any], epoch: int) -> set[str]:
    return {
        r
        for at, (what, r, e) in enumerate(story)
        if (what, e) == ("acked", epoch) and promise(story[:at], r) <= epoch
    }


def overtaken(story: list[Any], epoch: int) -> bool:
    acked = {r for what, r, e in story if (what, e) == ("acked", epoch)}
    promised = {r for r in REPLICAS if promise(story, r) > epoch}
    return any(
        not set(fence) & carriers(story, epoch)
        for _ in combinations(sorted(acked), W)
        for fence in combinations(sorted(promised), R)
    )


@given(stories(step("promised", replicas, small), step("acked", replicas, small), most=40))
def test_replicas_that_keep_their_promises_raise_no_alarm(story: list[Any]) -> None:
    checker, promises = Fencing(n=N, r=R, w=W), dict.fromkeys(REPLICAS, 0)
    for at_ns, (what, replica, epoch) in enumerate(story):
        if epoch < promises[replica]:
            continue
        if what == "acked":
            checker.acked(at_ns, replica, SECTION, epoch, 1, 100)
        promises[replica] = epoch
        checker.promised(at_ns, replica, SECTION, epoch)
    assert checker.violations == []


# -- LEASE-1: all hulls against all others


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), max_size=12))
def test_hulls_overlap_where_some_answer_lies_between_two_of_another(
    story: list[tuple[int, int]],
) -> None:
    checker = OneOwner()
    for at_ns, (incarnation, epoch) in enumerate(story):
        last = story[at_ns - 1] if at_ns else None
        violation = checker.served(at_ns, SECTION, incarnation, epoch)
        told = story[:at_ns]
        since = told.index((incarnation, epoch)) if (incarnation, epoch) in told else at_ns
        between = any(other != incarnation for other, _ in told[since:])
        above = any(other != incarnation and e > epoch for other, e in told)
        wrong = (between or above) and last != (incarnation, epoch)
        assert (violation is not None) == wrong


# -- SEQ-1, SEQ-4: what is found as calls happen is what is found in the history afterwards


@st.composite
def histories(draw: st.DrawFn) -> list[Call]:
    calls = []
    for _ in range(draw(st.integers(0, 8))):
        call_ns = draw(st.integers(0, 9))
        return_ns = call_ns + draw(st.integers(0, 6))
        error = draw(st.sampled_from([None] * 5 + ["TIMEOUT"]))
        seq = draw(st.integers(1, 12))
        if draw(st.booleans()):
            calls.append(handout(seq, call_ns, return_ns, draw(small), error=error))
        else:
            exact = draw(st.booleans())
            calls.append(current(seq, call_ns, return_ns, exact=exact, error=error))
    return calls


def follow(calls: list[Call]) -> tuple[Order, Current]:
    """Feed the calls to both; at one instant, those that begin come before those that end."""
    in_order, of_current = Order(), Current()
    began = [(call.call_ns, 0, name, call) for name, call in zip(count(), calls, strict=False)]
    ended = [(call.return_ns, 1, name, call) for name, call in zip(count(), calls, strict=False)]
    for at_ns, ends, name, call in sorted(began + ended, key=lambda item: item[:3]):
        checkers = (in_order, of_current) if call.op == "next" else (of_current,)
        for checker in checkers:
            if not ends:
                checker.began(at_ns, name, call.uid)
            elif call.error:
                checker.failed(at_ns, name)
            elif call.op == "next":
                checker.answered(at_ns, name, call.seq, call.count)
            else:
                of_current.answered_current(at_ns, name, call.seq, call.exact)
    return in_order, of_current


@given(histories())
def test_what_is_found_as_calls_happen_is_what_is_found_afterwards(calls: list[Call]) -> None:
    in_order, of_current = follow(calls)
    assert len(in_order.violations) == len(list(order(calls)))
    if not list(uniqueness(calls)):  # else a range may hide behind a number inside it
        found = [*current_keeps_order(calls), *current_is_whole(calls)]
        event(f"SEQ-4: {bool(found)}")
        assert bool(of_current.violations) == bool(found)
