"""Stepping: an LSTM autoencoder as two models without memory of their own, a few steps a call.

In: encoder and decoder as callables, their states passed in and out. Out: a callable,
float32[steps, features] to the same shape. Never: knows LiteRT, keeps a state between windows.

    encoder(rows, state) -> state    ...    the inner LSTM's h of the last one is the code
    decoder(code, state) -> (rows, state)    ...    the rows are the output

The states live here, so there is nothing to forget to reset, as a fused LSTM would need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundles.manifest import SteppingSpec

Features: TypeAlias = NDArray[np.float32]
Step: TypeAlias = Callable[..., Sequence[Features]]


class SteppingModel:
    """One network of `spec.units` = (outer, inner), `spec.rows` steps a call."""

    def __init__(self, spec: SteppingSpec, steps: int, encoder: Step, decoder: Step) -> None:
        self._rows, self._steps = spec.rows, steps
        self._encoder, self._decoder = encoder, decoder
        outer, inner = spec.units
        self._code = slice(2 * outer, 2 * outer + inner)
        self._start = np.zeros(2 * (outer + inner), np.float32)

    def __call__(self, scaled: Features) -> Features:
        """The reconstruction of one scaled window."""
        state = self._start
        for first in range(0, self._steps, self._rows):
            (state,) = self._encoder(scaled[first : first + self._rows], state)
        code, state = state[self._code], self._start
        made = np.empty_like(scaled)
        for first in range(0, self._steps, self._rows):
            made[first : first + self._rows], state = self._decoder(code, state)
        return made
