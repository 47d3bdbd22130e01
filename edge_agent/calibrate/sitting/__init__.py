"""Sitting: a calibration while it is done: samples, screen, keys, and what is stored in the end.

Begin at `task.py` (what a calibration is) and `sitting.py` (the loop that serves them all).
"""
