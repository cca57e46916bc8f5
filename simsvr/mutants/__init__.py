"""Planted bugs: proof that the simulator and its checkers see what they are there to see.

patches.py    what a planted bug is: a few lines of the product, written differently
in_*.py       the bugs, by the program that they are planted in; `catalogue.ALL` is all of them
scratch.py    a copy of the packages, with a bug in it
hunt.py       run inside of such a copy: seeds until a promise is broken
table.py      what came of it, for docs/TESTING.md

`python -m simsvr.mutants` hunts for all of them.
"""
