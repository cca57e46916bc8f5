"""A cluster of real processes on a network that can be cut: what breaks, and what callers see.

network.py        hosts in network namespaces, a router between them, cuts that are silent
program.py        a process on a host: killed, frozen, restarted as it was
etcd.py           real etcd members
cluster.py        etcd, StoreSvr, AllocSvr and arbiters of one or more Sets
asked.py          a child that answers one line with another
load_program.py   callers without end, as a child;  load.py  its handle, phases, the verdict
verdict.py        `seqctl check` over what was recorded, load after load
meter.py          gaps, failed calls and jumps, as callers see them
web_program.py    HTTP from a host of the network;  map_program.py  the cluster map from there
keeper.py         one cluster for many tests
faults.py         everything that the soak does;  soak.py  random faults under load
"""
