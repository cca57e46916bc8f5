"""The simulated map's state against its own whole history: the floor that the simulator stands on.

The oracle keeps one dictionary per revision. What a watcher is told after any revision, put upon
what stood then, is what stands now; and views that were handed out never change.
"""

from collections.abc import Mapping

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from clustermap.errors import MapUnavailable
from simsvr.mapstate import ELECTIONS_PREFIX, Compacted, Held, MapState, Seen

KEYS = st.sampled_from(["a", "b", "b/c"])
BOUND = st.sampled_from(["n/1", "n/2", f"{ELECTIONS_PREFIX}x"])
VALUES = st.binary(max_size=1)


class StateAgainstItsHistory(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.state = MapState()
        self.stood: dict[int, dict[str, Held]] = {1: {}}
        self.views = [self.state.view]
        self.compacted = 1
        self.lease = 0

    @property
    def now(self) -> dict[str, Held]:
        return self.stood[max(self.stood)]

    def wrote(self, changed: dict[str, bytes | None], lease: int) -> None:
        """What really changes something is one revision, however much it is."""
        revision = max(self.stood) + 1
        after = {key: held for key, held in self.now.items() if changed.get(key, b"") is not None}
        written = {key: value for key, value in changed.items() if value is not None}
        after |= {key: Held(value, revision, lease) for key, value in written.items()}
        if after != self.now:
            self.stood[revision] = after
        assert self.state.view.revision == max(self.stood)

    @rule(
        puts=st.dictionaries(KEYS, st.one_of(VALUES, st.none()), max_size=3),
        expected=st.dictionaries(st.one_of(KEYS, BOUND), st.sampled_from([0, -1]), max_size=2),
    )
    def transact(self, puts: dict[str, bytes | None], expected: dict[str, int]) -> None:
        """expected: -1 stands for what is true, 0 for that there is no such key."""
        true = {key: self.now[key].revision if key in self.now else 0 for key in expected}
        asked = {key: true[key] if rev < 0 else rev for key, rev in expected.items()}
        told = self.state.transact(asked, puts)
        if asked == true:
            self.wrote(puts, 0)
            assert told == max(self.stood)
        else:
            assert told is None

    @rule(key=BOUND)
    def a_bound_key_is_not_put(self, key: str) -> None:
        held = self.now.get(key)
        if key.startswith(ELECTIONS_PREFIX) or (held is not None and held.lease):
            with pytest.raises(ValueError, match="holder"):
                self.state.transact({}, {key: b"x"})

    @rule()
    def grant(self) -> None:
        self.lease += 1
        self.state.leases[self.lease] = 5

    @precondition(lambda self: self.lease)
    @rule(key=BOUND, value=VALUES, data=st.data(), again=st.booleans(), stale=st.booleans())
    def bind(self, key: str, value: bytes, data: st.DataObject, again: bool, stale: bool) -> None:
        lease = data.draw(st.integers(1, self.lease))
        held = self.now.get(key)
        revision = (held.revision if held else 0) - stale
        if lease not in self.state.leases:
            with pytest.raises(MapUnavailable):
                self.state.bind(key, value, lease)
            return
        if again:
            told = self.state.rebind(key, value, lease, revision)
            mine = held is not None and held.lease == lease and not stale
            assert (told is not None) == mine
            if not mine:
                return
        else:
            self.state.bind(key, value, lease)
        self.wrote({key: value}, lease)

    @precondition(lambda self: self.lease)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        lease = data.draw(st.integers(1, self.lease))
        self.state.drop(lease)
        assert lease not in self.state.leases
        self.wrote({key: None for key, held in self.now.items() if held.lease == lease}, 0)

    @rule()
    def compact(self) -> None:
        self.state.compact()
        self.compacted = max(self.stood)

    @rule()
    def go_on_with_a_copy(self) -> None:
        """A backup is worth what it was made of, and goes its own way."""
        original, self.state = self.state, self.state.copy()
        original.leases.clear()
        original.transact({}, {"a": b"other", "b": None})
        original.compact()

    @rule(prefix=st.sampled_from(["", "b", "n/"]), back=st.integers(0, 5))
    def watch(self, prefix: str, back: int) -> None:
        told = max(1, max(self.stood) - back)
        if told < self.compacted:
            with pytest.raises(Compacted):
                self.state.after(prefix, told)
            return
        seen = {k: (h.value, h.revision) for k, h in self.stood[told].items()}
        before = told
        for change in self.state.after(prefix, told):
            assert before < change.revision, "by rising revision"
            before = change.revision
            for key, versioned in change.entries.items():
                assert key.startswith(prefix)
                seen.pop(key, None)
                if versioned is not None:
                    seen[key] = versioned.value, versioned.revision
            stood = {k: (h.value, h.revision) for k, h in self.stood[before].items()}
            assert under(prefix, seen) == under(prefix, stood)
        now = {k: (h.value, h.revision) for k, h in self.now.items()}
        assert under(prefix, seen) == under(prefix, now)

    @invariant()
    def every_view_stays_what_it_was_when_it_was_taken(self) -> None:
        if self.state.view is not self.views[-1]:
            self.views.append(self.state.view)
        for view in self.views:
            assert view.entries == self.stood[view.revision]
        view = self.state.view
        for key in ("a", "b", "n/1", "none"):
            held = self.now.get(key)
            lease, written = (held.lease, held.revision) if held else (None, 0)
            assert view.look(key) == Seen(view.revision, lease, written)
        listed = view.listing("b")
        assert listed.revision == max(self.stood)
        assert list(listed.entries) == sorted(under("b", dict.fromkeys(self.now)))


def under(prefix: str, entries: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in entries.items() if key.startswith(prefix)}


StateAgainstItsHistory.TestCase.settings = settings(max_examples=100, stateful_step_count=30)
TestMapState = StateAgainstItsHistory.TestCase
