"""How a replica stands, by its answers to Renew."""

import pytest

from allocsvr.standing import Standing
from clustermap.errors import ReplicaFailed


def test_a_replica_that_was_never_asked_is_asked_but_does_not_count() -> None:
    standing = Standing()
    assert standing.ejected is None
    assert not standing.granting


@pytest.mark.parametrize("reason", ["TIMEOUT", "UNREACHABLE", "FOREIGN"])
def test_silence_ejects_until_the_next_grant(reason: str) -> None:
    standing = Standing()
    standing.granted()
    assert standing.failed(ReplicaFailed(reason, "x"), 10.0)
    assert not standing.granting
    assert not standing.failed(ReplicaFailed(reason, "y"), 12.0), "it is ejected once only"
    refusal = standing.refusal(2, 13.5)
    assert refusal.reason == ("FOREIGN" if reason == "FOREIGN" else "UNREACHABLE")
    assert "replica 2: ejected since 3.5 s" in refusal.text
    standing.granted()
    assert standing.granting
    assert standing.ejected is None
    assert standing.failed(ReplicaFailed(reason, "z"), 20.0)
    assert "since 1.0 s" in standing.refusal(2, 21.0).text


@pytest.mark.parametrize("reason", ["BLANK", "CORRUPT", "MEMBERSHIP", "OVERLOADED", "INTERNAL"])
def test_a_refusal_is_an_answer_it_does_not_count_and_does_not_eject(reason: str) -> None:
    standing = Standing()
    standing.granted()
    assert not standing.failed(ReplicaFailed(reason, "x"), 10.0)
    assert not standing.granting
    assert standing.ejected is None
    standing.failed(ReplicaFailed("TIMEOUT", "x"), 11.0)
    assert not standing.failed(ReplicaFailed(reason, "it answers again"), 12.0)
    assert standing.ejected is None
