"""Chaos: what people do to a gateway in the field, done to a real one, and what was lost by it.

`python -m tests.chaos` does all of it at full length; `test_chaos.py` the same, shorter. One module
is one kind of trouble and has `trouble(setting) -> list[Row]`.
"""
