"""`make bench`: what numbers cost here and elsewhere, side by side in one run.

contestants.py  who is measured, and what each of them guarantees
cases.py        what is measured: shapes of load, and who runs in each
processes.py    child processes on a core of their own
peers.py        starts the servers of other makers       ours.py  starts ours
bare.py         the limit: a server program that does no work
load.py         one measurement: a program of its own, on the other core
closed.py, paced.py, streams.py, threads.py   its shapes; drivers.py: who it calls
redis_tool.py   redis-benchmark, which is its own load
timeline.py     latency over time through a raise, a hand-over and a fail-over
samples.py      latencies to percentiles, rounds to medians
run.py          rounds in turn     report.py, aims.py, plots.py   what came of them
"""
