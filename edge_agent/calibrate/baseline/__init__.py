"""Baseline: what is normal for this very machine, so that a bundle built elsewhere fits it.

In: ten minutes of the healthy machine in each of its states. Out: another threshold and other
normal levels for a bundle, on the shelf of its board. Never: takes a machine for healthy that is
not (`checks.py` says by which limits), trains a network.
"""
