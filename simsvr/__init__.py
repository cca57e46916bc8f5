"""A deterministic simulator of a whole cluster: real code, simulated time, network, disks and map.

loop.py      SimLoop: one event loop for all hosts, in virtual time
hosts.py     Host: a machine and its clock; crashes, pauses and resumes
network.py   Network: delays, losses, duplicates, one-way cuts
channels.py  grpc.aio as the product uses it, over that network

Everything that happens in a run is a function of its seed (`python -m simsvr --seed N`).
"""
