"""Stepping: a trained LSTM autoencoder as two functions of a few time steps, states passed outside.

In: the weights in Keras' order, and how many rows a call takes. Out: two TensorFlow functions of
fixed shapes. Never: holds a state, trains.

    encoder(rows, state) -> state    decoder(code, state) -> (rows, state)

A state is (h, c, h, c) of both LSTMs in one vector. Each product is a plain FULLY_CONNECTED whose
weights int8 can store and XNNPACK can run; the fused LSTM operation has no fast int8 form.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Weights = list[NDArray[Any]]

LSTM_WEIGHTS = 3
GATES = 4


def step_functions(tensorflow: Any, weights: Weights, features: int, rows: int) -> tuple[Any, Any]:
    """Encoder and decoder as concrete functions; arguments and results are named in order."""
    cells = [
        _Cell(tensorflow, weights[i : i + LSTM_WEIGHTS])
        for i in range(0, GATES * LSTM_WEIGHTS, LSTM_WEIGHTS)
    ]
    kernel, bias = (tensorflow.constant(array) for array in weights[GATES * LSTM_WEIGHTS :])

    outer, inner = cells[0].units, cells[1].units

    def encoder(input_0: Any, input_1: Any) -> Any:
        states = tensorflow.split(input_1, [outer, outer, inner, inner], axis=1)
        hidden, first = cells[0].run(cells[0].fed(input_0[0]), states[0], states[1])
        _, second = cells[1].run(cells[1].fed(hidden), states[2], states[3])
        return tensorflow.concat([*first, *second], axis=1)

    def decoder(input_0: Any, input_1: Any) -> Any:
        states = tensorflow.split(input_1, [inner, inner, outer, outer], axis=1)
        # The code is the same for every row.
        hidden, first = cells[2].run([cells[2].bare(input_0)] * rows, states[0], states[1])
        hidden, second = cells[3].run(cells[3].fed(hidden), states[2], states[3])
        made = tensorflow.matmul(hidden, kernel) + bias
        state = tensorflow.concat([*first, *second], axis=1)
        return tensorflow.reshape(made, (1, rows, features)), state

    size = 2 * (outer + inner)
    return (
        _concrete(tensorflow, encoder, [(1, rows, features), (1, size)]),
        _concrete(tensorflow, decoder, [(1, inner), (1, size)]),
    )


class _Cell:
    """One LSTM; Keras' gates are input, forget, candidate, output."""

    def __init__(self, tensorflow: Any, weights: Weights) -> None:
        self._tf = tensorflow
        kernel, recurrent, bias = weights
        self.units = recurrent.shape[0]
        # The three that go through a sigmoid together.
        order = np.concatenate([np.arange(self.units) + gate * self.units for gate in (0, 1, 3, 2)])
        self._kernel, self._recurrent, self._bias = (
            tensorflow.constant(array[..., order]) for array in (kernel, recurrent, bias)
        )

    def bare(self, values: Any) -> Any:
        """What the input adds to the gates [rows, 4 x units]."""
        return self._tf.matmul(values, self._kernel) + self._bias

    def fed(self, values: Any) -> list[Any]:
        """The same for all rows in one product, then row by row."""
        return list(self._tf.split(self.bare(values), values.shape[0], axis=0))

    def run(self, fed: list[Any], hidden: Any, cell: Any) -> tuple[Any, tuple[Any, Any]]:
        """All rows: the hidden states [rows, units], and the last state."""
        out = []
        for row in fed:
            hidden, cell = self._step(row, hidden, cell)
            out.append(hidden)
        return self._tf.concat(out, axis=0), (hidden, cell)

    def _step(self, fed: Any, hidden: Any, cell: Any) -> tuple[Any, Any]:
        tf, units = self._tf, self.units
        gates = tf.matmul(hidden, self._recurrent) + fed
        opened = tf.sigmoid(gates[:, : 3 * units])
        entering, kept, leaving = tf.split(opened, 3, axis=1)
        cell = kept * cell + entering * tf.tanh(gates[:, 3 * units :])
        return leaving * tf.tanh(cell), cell


def _concrete(tensorflow: Any, function: Any, shapes: list[tuple[int, ...]]) -> Any:
    signature = [
        tensorflow.TensorSpec(shape, tensorflow.float32, name=f"input_{i}")
        for i, shape in enumerate(shapes)
    ]
    return tensorflow.function(function, input_signature=signature).get_concrete_function()
