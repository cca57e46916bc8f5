"""What is packed by hand is what protobuf reads."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from allocsvr.counters import Taken
from allocsvr.packing import session_response, varint
from seqsvr.v1 import alloc_pb2 as pb

NUMBERS = st.one_of(st.integers(1, 300), st.integers(1, 2**63 - 1), st.just(2**63 - 1))
IDS = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 127, 128, 2**64 - 1]))


@given(
    IDS,
    st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=60),
    st.one_of(st.none(), NUMBERS),
)
def test_a_packed_answer_is_read_as_what_it_says(
    id_: int, entries: list[tuple[int, int]], one: int | None
) -> None:
    seqs = [seq for seq, _ in entries]
    epochs = [epoch for _, epoch in entries]
    taken = Taken(
        np.array(seqs, np.int64), np.array(epochs, np.int64) if one is None else one, len(seqs)
    )
    response = pb.SessionResponse.FromString(session_response(id_, taken))
    expected = pb.SessionResponse(id=id_)
    expected.next.seqs.extend(seqs)
    expected.next.epochs.extend(epochs if one is None else [one])
    assert response == expected


@given(st.integers(0, 2**64 - 1))
def test_one_value_is_packed_as_protobuf_does(value: int) -> None:
    assert b"\x08" + varint(value) == (
        pb.SessionRequest(id=value).SerializeToString() or b"\x08\x00"
    )
