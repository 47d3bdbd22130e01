"""Speaks to the board: bytes in, samples out. PROTOCOL.md says which bit, link.py the session."""
