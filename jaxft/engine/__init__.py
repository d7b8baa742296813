"""Many replicas at once, and what a group of trials needs.

`replica.py` is the training of one, made by a `recipe.py`; `programs.py` alone maps over many; `pool.py` knows which
replica is in which slot; `groups.py` makes a pool for the trials that share a program.
"""
