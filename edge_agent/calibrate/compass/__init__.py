"""Compass: a board that is turned tells what iron is about it, and how wrong its headings will be.

Begin at `compass.py` (the method), then `task.py` (the same while it is being turned).
"""
