"""Connections that mean harm, and what they cost those that do not.

attacks.py    what is sent, by name
program.py    one attack, as a process of its own
figures.py    every attack against `seqctl up` with 10,000 connections: memory, descriptors, p99
"""
