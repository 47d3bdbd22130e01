"""Checkup: what is wrong with ports, boards and broker, and the cure. Begin at `doctor.py`."""
