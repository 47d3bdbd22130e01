"""Shelf: calibrations that are kept, and what the service makes of them. Begin at `shelf.py`."""
