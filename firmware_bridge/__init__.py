"""Speaks to the board: bytes in, samples out. See PROTOCOL.md for which bit, link.py for the session."""
