"""Bundles: what the converter has written and the gateway trusts, and the network in it.

Begin at `bundle.py` (the file), `manifest.py` (what it says), `model.py` (what judges).
"""
