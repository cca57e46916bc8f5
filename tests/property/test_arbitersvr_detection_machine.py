"""Who is given up, told from the whole record of what was seen; and which sections have to wait.

The oracle keeps every picture, probe and outcome, and looks at all of them each time. A node is
given up only if it is not registered and probes of this very absence failed, or if it says for
longer than two lease times that it has none, while another has.
"""

from dataclasses import dataclass, field, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from arbitersvr.detection import Detection, Outcome, Probe
from arbitersvr.grace import Grace
from clustermap.model import Assignments, Replica, SetSpec
from clustermap.nodes import Load, Node
from clustermap.placement import reassign, unassign
from clustermap.ranges import Range

TTL, ROUND = 20, 5
NODES = st.sampled_from([1, 2])
CHANGES = ["gone", "gone", "leased", "unleased", "garbage", "blinked"]


@dataclass
class Absence:
    """One spell of a node that is named and not registered."""

    sent: list[int] = field(default_factory=list)  # when probes of it were begun
    outcomes: list[Outcome] = field(default_factory=list)
    in_flight: bool = False


class DetectionFromTheRecord(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 100
        self.detection = Detection(TTL, ROUND)
        self.named: dict[int, str] = {}
        self.registered: dict[int, Node | None] = {}
        self.absences: dict[int, Absence] = {}
        self.unleased: dict[int, int] = {}  # since when, while another is leased
        self.lapsed: set[int] = set()
        self.flying: list[tuple[Probe, Absence]] = []

    @initialize(nodes=st.integers(0, 2))
    def begin(self, nodes: int) -> None:
        for key in range(1, nodes + 1):
            self.named[key] = f"n:{key}"
            self.registered[key] = Node(key, f"n:{key}", "s")
        self.see()

    # -- the map

    @rule(key=NODES, named=st.booleans())
    def sections_move(self, key: int, named: bool) -> None:
        self.named.pop(key, None)
        if named:
            self.named[key] = f"n:{key}"
        self.see()

    @rule(key=NODES, how=st.sampled_from(CHANGES))
    def a_registration_changes(self, key: int, how: str) -> None:
        node = Node(key, f"n:{key}", "s", leased=how == "leased")
        self.registered.pop(key, None)
        if how != "gone":
            self.registered[key] = None if how == "garbage" else node
        self.see()
        if how == "blinked":
            del self.registered[key]
            self.see()

    @rule()
    def see(self) -> None:
        """The picture is read again."""
        self.detection.see(self.named, self.registered, self.now)
        gone = self.named.keys() - self.registered.keys()
        self.absences = {key: self.absences.get(key, Absence()) for key in gone}
        readable = {key: node for key, node in self.registered.items() if node is not None}
        others = any(node.leased for node in readable.values())
        without = {key for key, node in readable.items() if not node.leased} if others else set()
        self.unleased = {key: self.unleased.get(key, self.now) for key in without}
        self.lapsed &= without

    # -- probes

    @rule()
    def probe(self) -> None:
        """What is due: each absent node at once, then once a round, one probe at a time."""
        expected = []
        for key, absence in self.absences.items():
            rested = not absence.sent or absence.sent[-1] + ROUND <= self.now
            if not absence.in_flight and rested:
                absence.in_flight = True
                absence.sent.append(self.now)
                expected.append(key)
        probes = self.detection.due(self.now)
        assert [probe.incarnation for probe in probes] == sorted(expected)
        for probe in probes:
            assert probe.address == f"n:{probe.incarnation}"
            self.flying.append((probe, self.absences[probe.incarnation]))

    @precondition(lambda self: self.flying)
    @rule(data=st.data(), outcome=st.sampled_from(Outcome))
    def a_probe_ends(self, data: st.DataObject, outcome: Outcome) -> None:
        self.end(data.draw(st.integers(0, len(self.flying) - 1)), outcome)

    def end(self, at: int, outcome: Outcome) -> None:
        probe, absence = self.flying.pop(at)
        self.detection.probed(probe, outcome)
        absence.outcomes.append(outcome)  # of a spell that is over: nobody looks at it any more
        absence.in_flight = False

    @rule(outcomes=st.lists(st.sampled_from(Outcome), max_size=4))
    def rounds_of_probes(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            self.time_passes(ROUND)
            self.probe()
            while self.flying:
                self.end(0, outcome)

    @rule(passed=st.sampled_from([1, ROUND, 2 * TTL, 2 * TTL + 1]))
    def time_passes(self, passed: int) -> None:
        self.now += passed
        self.detection.pass_time(self.now)
        for key, since in self.unleased.items():
            if self.now - since > 2 * TTL:
                self.lapsed.add(key)

    # -- what must hold

    @invariant()
    def only_what_is_gone_and_silent_or_says_so_itself_is_given_up(self) -> None:
        failed = {key for key, absence in self.absences.items() if self.failed(absence.outcomes)}
        assert self.detection.given_up == failed | self.lapsed
        assert self.detection.absent == set(self.absences)

    @staticmethod
    def failed(outcomes: list[Outcome]) -> bool:
        """Gone, or silent twice in a row, and not found alive since."""
        last_alive = max((i for i, o in enumerate(outcomes) if o is Outcome.ALIVE), default=-1)
        since = outcomes[last_alive + 1 :]
        silent = [Outcome.SILENT, Outcome.SILENT]
        twice = any(since[i : i + 2] == silent for i in range(len(since) - 1))
        return Outcome.GONE in since or twice

    @invariant()
    def it_wakes_up_when_something_will_be_due(self) -> None:
        waiting = [absence for absence in self.absences.values() if not absence.in_flight]
        times = [a.sent[-1] + ROUND for a in waiting if a.sent]
        ends = [s + 2 * TTL + 1 for key, s in self.unleased.items() if key not in self.lapsed]
        told = self.detection.next_ns()
        if any(not absence.sent for absence in waiting):
            assert told is not None and told <= self.now
        else:
            assert told == min([*times, *ends], default=None)


DetectionFromTheRecord.TestCase.settings = settings(max_examples=250, stateful_step_count=40)
TestDetection = DetectionFromTheRecord.TestCase

SECTIONS = 4
CLAIM, GATHER = 60, 3
SPEC = SetSpec("s", (Range(0, SECTIONS - 1),), (Replica("r", "a:1", 1),), 1, 1)


class GraceSectionBySection(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 100
        self.grace = Grace(CLAIM, GATHER)
        self.document = Assignments("s")
        self.seen_owned: set[int] = set()
        self.nodes = {1: Node(1, "n:1", "s")}
        self.waiting_since: int | None = None

    @rule(first=st.integers(0, SECTIONS - 1), length=st.integers(0, 2), owned=st.booleans())
    def assign(self, first: int, length: int, owned: bool) -> None:
        last = min(first + length, SECTIONS - 1)
        if owned:
            self.document = reassign(self.document, first, last, self.nodes[1])
        else:
            self.document = unassign(self.document, first, last)
        self.see()

    def see(self) -> set[int]:
        """A picture of the document; who is owned in it."""
        self.grace.see(self.document)
        owned = {s for s in range(SECTIONS) if self.document.owner(s)}
        self.seen_owned |= owned
        return owned

    @rule()
    def the_map_is_wiped(self) -> None:
        if self.document.version:
            self.document = Assignments("s")
            self.seen_owned, self.waiting_since = set(), None
            self.see()

    @rule(state=st.sampled_from(["leased", "unleased", "draining"]), serving=st.integers(0, 6))
    def a_node_changes(self, state: str, serving: int) -> None:
        changed = Node(1, "n:1", "s", draining=state == "draining", leased=state != "unleased")
        self.nodes[1] = replace(changed, load=Load(serving=serving))

    @rule(passed=st.integers(0, 70))
    def time_passes(self, passed: int) -> None:
        self.now += passed

    @rule()
    def ask(self) -> None:
        """Which sections have to wait: those never seen owned, until a moment has passed."""
        owned = self.see()
        node = self.nodes[1]
        strange = set(range(SECTIONS)) - self.seen_owned
        held = self.grace.held_back(self.document, SPEC, list(self.nodes.values()), self.now)
        told = {s for span in held for s in range(span.first, span.last + 1)}
        if not strange or node.draining or not node.leased:
            self.waiting_since = None
            assert (told, self.grace.until_ns) == (set(), None)
            return
        if self.waiting_since is None:
            self.waiting_since = self.now
        until = self.waiting_since + (CLAIM if node.load.serving > len(owned) else GATHER)
        assert told == (strange if self.now < until else set())
        assert self.grace.until_ns == (until if self.now < until else None)


GraceSectionBySection.TestCase.settings = settings(max_examples=200, stateful_step_count=20)
TestGrace = GraceSectionBySection.TestCase
