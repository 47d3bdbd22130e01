"""Broker: what subscribers are promised, how it gets there, and what comes from them.

Begin at `contract.py` (what is said) and `publisher.py` (how).
"""
