"""What scale costs, measured, and a model of it: see bench/scale.py and docs/CAPACITY.md."""
