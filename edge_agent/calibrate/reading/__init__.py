"""Reading: recordings, CSV, text columns and NPZ to columns of numbers. Begin at `files.py`."""
