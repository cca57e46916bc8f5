"""Changes of a Set's replicas as operators ask for them, counted by hand. NRW-1, FENCE-1."""

from hypothesis import given
from hypothesis import strategies as st

from clustermap.coordinator import Listing, Versioned
from clustermap.jobs import Job, State, job_key
from clustermap.model import CLUSTER_KEY, Cluster, Replica, SetSpec, set_key
from clustermap.ranges import Range
from seqctl.failures import NotDone, WrongUsage
from seqctl.map_view import View, view
from seqctl.reform_plan import Asked, Infos, addresses, reformed, turned
from seqsvr.v1 import store_pb2 as pb

CLUSTER = Cluster("c", 10, 100)
STORES = tuple(Replica(f"store-{i}", f"h:{i}", i) for i in range(1, 8))
MAYBE = st.none() | st.integers(1, 4)


def seen(spec: SetSpec, *jobs: Job) -> View:
    entries = {CLUSTER_KEY: CLUSTER.to_json(), set_key(spec.name): spec.to_json()}
    entries |= {job_key(job.id): job.to_json() for job in jobs}
    return view(Listing(9, {key: Versioned(raw, 5) for key, raw in entries.items()}))


def word(one: Replica, **other: object) -> pb.InfoResponse:
    said = {"cluster": "c", "set": "s", "section_size": 10, "uid_limit": 100, "membership": 1}
    return pb.InfoResponse(replica=one.name, store_id=one.store_id, **(said | other))  # type: ignore[arg-type]


@st.composite
def situations(draw: st.DrawFn) -> tuple[SetSpec, Asked, dict[str, pb.InfoResponse | str]]:
    n = draw(st.integers(1, 4))
    majority = n // 2 + 1
    spec = SetSpec("s", (Range(0, 9),), STORES[:n], majority, majority, draw(st.integers(1, 3)))
    add = draw(st.lists(st.sampled_from(STORES), max_size=2, unique=True))
    remove = draw(st.lists(st.sampled_from(STORES[:5]), max_size=2, unique=True))
    asked = Asked(
        "s",
        tuple(one.address for one in add),
        tuple(one.name for one in remove),
        draw(MAYBE),
        draw(MAYBE),
    )
    infos: dict[str, pb.InfoResponse | str] = {}
    for one in STORES:
        if draw(st.integers(0, 5)) == 0:
            infos[one.address] = "no answer"
        else:
            odd = draw(st.sampled_from([{}, {}, {}, {"set": "t"}, {"out_of_quorum": "bits"}]))
            infos[one.address] = word(one, **odd)
    return spec, asked, infos


@given(situations())
def test_whatever_is_begun_has_quorums_that_meet_and_are_alive(
    situation: tuple[SetSpec, Asked, Infos],
) -> None:
    spec, asked, infos = situation
    found = seen(spec)
    assert set(asked.add) <= set(addresses(found, asked))
    try:
        made, change = reformed(found, asked, infos, by="ann", created_s=1)
    except (NotDone, WrongUsage):
        return

    def well(one: Replica) -> bool:
        info = infos[one.address]
        return not isinstance(info, str) and not info.out_of_quorum

    reform = made.reform
    names = {one.name for one in spec.replicas} - set(asked.remove)
    new = {one.name for one in STORES if one.address in asked.add}
    assert {one.name for one in reform.replicas} == names | new
    assert reform.r + reform.w > len(reform.replicas)
    assert sum(map(well, spec.replicas)) >= max(spec.r, spec.w)
    assert sum(map(well, reform.replicas)) >= max(reform.r, reform.w)
    assert all(well(one) for one in reform.replicas if one not in spec.replicas)
    assert made.steps and change.puts[job_key(made.job.id)] == made.job.to_json()
    assert change.expected == {job_key(made.job.id): 0, set_key("s"): 5}
    again = seen(spec, made.job)
    try:
        reformed(again, asked, infos, by="bob", created_s=2)
        raise AssertionError("two changes of one Set at once")
    except NotDone:
        pass
    aborted, _ = turned(again, made.job.id, State.ABORTING)
    assert aborted.state is State.ABORTING
