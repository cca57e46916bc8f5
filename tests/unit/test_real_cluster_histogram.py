"""Histograms of latencies: as good as the sorted list, at a size that does not grow."""

import random

from real_cluster.histogram import Histogram, merged


def test_a_quantile_is_at_most_a_twentieth_above_the_true_one_and_never_below() -> None:
    draw = random.Random(1)
    values = [round(draw.lognormvariate(14, 2)) for _ in range(5_000)]
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    values.sort()
    for q in (0.01, 0.5, 0.9, 0.99, 1.0):
        true = values[max(0, round(q * len(values)) - 1)]
        assert 0.999 * true <= histogram.quantile_ns(q) <= 1.05 * true, q
    assert histogram.total == len(values) and len(histogram.counts) < 400


def test_parts_added_up_are_the_whole_also_after_json_made_strings_of_their_keys() -> None:
    parts = [Histogram(), Histogram()]
    whole = Histogram()
    for value in range(1, 2_000, 7):
        parts[value % 2].add(value)
        whole.add(value)
    assert merged(part.counts for part in parts) == whole
    said = Histogram()
    said.merge({str(bucket): count for bucket, count in whole.counts.items()})
    assert said == whole


def test_of_nothing_every_quantile_is_nought_and_no_time_at_all_counts_too() -> None:
    histogram = Histogram()
    assert histogram.quantile_ms(0.99) == 0
    histogram.add(0)
    assert histogram.total == 1 and histogram.quantile_ns(1.0) == 1
