"""Alarms: who is told of an episode, what people answer, and what outlives a restart.

Begin at `panel.py`.
"""
