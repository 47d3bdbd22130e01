"""Losses: what a reconstruction is punished for, as weighted sums by configuration.

In: names and weights; later, target and reconstruction, float32[batch, steps, features].
Out: one number a batch. Never: scores: the gateway's score is the squared error, whatever the
network was trained with.

    mse        the mean squared error
    recency    the same, the last step counting twice as much as the first, evenly in between
    spectral   mean squared difference of the magnitudes of the spectra along time; by Parseval
               on the scale of `mse`, but blind to phase
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

LOSSES = ("mse", "recency", "spectral")
# Of a single step there is no last one and no spectrum.
ALONG_TIME = frozenset({"recency", "spectral"})
RECENCY = 2.0

Loss = Callable[[Any, Any], Any]


def make_loss(tensorflow: Any, wanted: tuple[tuple[str, float], ...]) -> Loss:
    """The weighted sum of the wanted losses."""
    known = {
        "mse": lambda target, output: tensorflow.reduce_mean(tensorflow.square(target - output)),
        "recency": lambda target, output: _recency(tensorflow, target, output),
        "spectral": lambda target, output: _spectral(tensorflow, target, output),
    }

    def loss(target: Any, output: Any) -> Any:
        target = tensorflow.cast(target, tensorflow.float32)
        return sum(weight * known[name](target, output) for name, weight in wanted)

    return loss


def _recency(tensorflow: Any, target: Any, output: Any) -> Any:
    weights = tensorflow.linspace(1.0, RECENCY, target.shape[1])
    by_step = tensorflow.reduce_mean(tensorflow.square(target - output), axis=(0, 2))
    return tensorflow.reduce_sum(weights * by_step) / tensorflow.reduce_sum(weights)


def _spectral(tensorflow: Any, target: Any, output: Any) -> Any:
    def magnitudes(windows: Any) -> Any:
        # Time must be the last axis; all bins of both signs, so that Parseval holds.
        series = tensorflow.cast(tensorflow.transpose(windows, (0, 2, 1)), tensorflow.complex64)
        return tensorflow.abs(tensorflow.signal.fft(series))

    difference = magnitudes(target) - magnitudes(output)
    return tensorflow.reduce_mean(tensorflow.square(difference)) / target.shape[1]
