"""Benchmark: how good our detectors are on public recordings, beside linear and trivial rivals.

In: recordings of the shared data folder. Out: numbers whose protocol is named where they are
computed. Never: a label in what is fitted, a part of the gateway.
"""
