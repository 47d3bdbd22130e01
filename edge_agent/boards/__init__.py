"""Boards: serial ports, the session with each board, and what is kept of its wire.

Begin at `session.py`.
"""
