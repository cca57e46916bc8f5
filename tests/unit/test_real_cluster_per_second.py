"""Seconds of several processes of callers, put together."""

import json

from real_cluster.per_second import SECOND_NS as S
from real_cluster.per_second import Merger, Ticker


def test_seconds_of_all_processes_are_added_up_once_each_is_done_with_them() -> None:
    one, two, merger = Ticker(), Ticker(), Merger(2, first=10)
    one.answered(10 * S + 5, 1_000)
    one.failed(11 * S)
    two.answered(10 * S + 9, 3_000)
    merger.add(0, one.take(12 * S + 1))
    assert not merger.whole(), "the other one may have more of them"
    merger.add(1, json.loads(json.dumps(two.take(11 * S + 1))))
    [(second, tick)] = merger.whole()
    assert (second, tick.answered, tick.failed, tick.latencies.total) == (10, 2, 0, 2)
    merger.add(1, two.take(13 * S))
    [(second, tick)] = merger.whole()
    assert (second, tick.answered, tick.failed) == (11, 0, 1)


def test_a_second_without_calls_is_one_too() -> None:
    ticker, merger = Ticker(), Merger(1, first=3)
    ticker.answered(5 * S, 1)
    merger.add(0, ticker.take(7 * S))
    assert [(second, tick.answered) for second, tick in merger.whole()] == [
        (3, 0),
        (4, 0),
        (5, 1),
        (6, 0),
    ]
    assert not merger.whole(), "none twice"


def test_the_second_that_is_not_over_is_taken_later_and_whole() -> None:
    ticker = Ticker()
    ticker.answered(7 * S + 1, 1)
    assert ticker.take(7 * S + 2) == {"until": 7, "ticks": []}
    ticker.answered(8 * S - 1, 1)
    [[second, answered, *_]] = ticker.take(8 * S)["ticks"]
    assert (second, answered) == (7, 2)
    assert not ticker.take(9 * S)["ticks"], "what was taken is let go"


def test_what_was_before_the_first_second_is_dropped() -> None:
    ticker, merger = Ticker(), Merger(1, first=4)
    ticker.answered(3 * S, 1)
    merger.add(0, ticker.take(5 * S))
    assert [(second, tick.answered) for second, tick in merger.whole()] == [(4, 0)]
