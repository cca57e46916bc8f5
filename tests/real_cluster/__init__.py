"""A cluster of real processes on a network that can be cut: what breaks, and what callers see.

network.py        hosts in network namespaces, a router between them, cuts that are silent
program.py        a process on a host: killed, frozen, restarted as it was
etcd.py           real etcd members
cluster.py        etcd, StoreSvr, AllocSvr and arbiters of one or more Sets
asked.py          a child that answers one line with another
load_program.py   callers without end, as a child;  load.py  its handle, phases, the verdict
crowd.py          several processes of callers as one load
verdict.py        `seqctl check` over what was recorded, load after load
meter.py          gaps, failed calls and jumps, as callers see them
histogram.py      how long calls took;  per_second.py  calls second by second, of all processes
web_program.py    HTTP from a host of the network;  map_program.py  the cluster map from there
keeper.py         one cluster for many tests
resharding.py     a Set split and merged under load;  killing.py  kill -9 every few seconds
traces.py         Tracebacks in logs that grow;  interrupts.py  Ctrl-C when it suits

faults.py         everything that the soak does to a cluster: what is in on_owners, on_replicas,
                  on_map and on_everything;  scene.py  what they have at hand;  harm.py  disks
soak_schedule.py  what it does when, from a seed;  soak_run.py  the rounds;  soak.py  the command
measured.py       what is kept of a soak;  ownership.py  who owned how much, from routes
soak_report.py    it as a page to look at;  report_style.py  its colours
timeline.py       the picture; timeline_view, timeline_charts, timeline_bands, svg: its parts
"""
