"""Picture: the map of an alarm, as numbers and to look at. Begin at `explanation.py`."""
