"""Stepping: an LSTM autoencoder as two models without memory of their own, a few steps a call.

In: encoder and decoder as callables, their states passed in and out. Out: a callable,
float32[steps, features] to the same shape. Never: knows LiteRT, keeps a state between windows.

    encoder(rows, h1, c1, h2, c2) -> (h1, c1, h2, c2)    ...    the last h2 is the code
    decoder(code, h3, c3, h4, c4) -> (rows, h3, c3, h4, c4)    ...    the rows are the output

The states live here, so there is nothing to forget to reset, as a fused LSTM would need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_agent.manifest import SteppingSpec

Features: TypeAlias = NDArray[np.float32]
Step: TypeAlias = Callable[..., Sequence[Features]]


class SteppingModel:
    """One network of `spec.units` = (outer, inner), `spec.rows` steps a call."""

    def __init__(self, spec: SteppingSpec, steps: int, encoder: Step, decoder: Step) -> None:
        self._rows, self._steps = spec.rows, steps
        self._encoder, self._decoder = encoder, decoder
        outer, inner = (np.zeros(size, np.float32) for size in spec.units)
        self._encoder_start = [outer, outer, inner, inner]
        self._decoder_start = [inner, inner, outer, outer]

    def __call__(self, scaled: Features) -> Features:
        """The reconstruction of one scaled window."""
        states: Sequence[Features] = self._encoder_start
        for first in range(0, self._steps, self._rows):
            states = self._encoder(scaled[first : first + self._rows], *states)
        code, states = states[2], self._decoder_start
        parts = []
        for _ in range(0, self._steps, self._rows):
            rows, *states = self._decoder(code, *states)
            parts.append(rows)
        return np.concatenate(parts)
