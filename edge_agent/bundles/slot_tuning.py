"""Slot tuning: slots that rebuild the normal moments of one machine, learned without TensorFlow.

In: codes of normal moments and the features that each should become, slots to begin with, the
decoder. Out: other slots. Never: changes the decoder, sees LiteRT, runs longer than it was told.

A softmax mixes neighbours, so the mixture of bare codes is blurred, and a decoder that has learned
to sharpen other slots does not sharpen these: bare codes rebuild a machine worse than the slots of
another one. The gradient of the rebuilding error by the slots is a few matrix products, and Adam
(Kingma and Ba, ICLR 2015) follows it.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundles.memory import Decoder, Features, shares_of, unit

Gradient: TypeAlias = NDArray[np.float32]

STEPS = 600
BATCH = 256
# Of the slots' own size; halves three times on the way.
RATE = 0.02
HALVINGS = 3
MOMENTS = (0.9, 0.999)
TINY = 1e-12


class Reading(NamedTuple):
    """How a memory is read: softmax of cosine / `temperature`; the `nearest` slots, 0: all; no
    share under `shrinkage`."""

    temperature: float
    nearest: int
    shrinkage: float


def tuned(
    slots: Features,
    codes: Features,
    targets: Features,
    decoder: Decoder,
    reading: Reading,
    random: np.random.Generator,
    steps: int = STEPS,
) -> Features:
    """Slots float32[slots, dim] from which the codes float32[n, dim] become the targets
    float32[n, features] as well as may be."""
    slots = slots.copy()
    size = float(np.sqrt(np.mean(np.square(slots)))) + TINY
    mean, power = np.zeros_like(slots), np.zeros_like(slots)
    for step in range(steps):
        some = random.integers(len(codes), size=min(BATCH, len(codes)))
        gradient = gradient_of(slots, codes[some], targets[some], decoder, reading)
        mean += (1.0 - MOMENTS[0]) * (gradient - mean)
        power += (1.0 - MOMENTS[1]) * (np.square(gradient) - power)
        first, second = (1.0 - moment ** (step + 1) for moment in MOMENTS)
        rate = size * RATE * 0.5 ** (step * (HALVINGS + 1) // steps)
        slots -= np.float32(rate) * (mean / first) / (np.sqrt(power / second) + np.float32(TINY))
    return slots


def gradient_of(
    slots: Features, codes: Features, targets: Features, decoder: Decoder, reading: Reading
) -> Gradient:
    """Of the mean squared error by the slots. What shrinkage does is taken as it is, not as
    something that could be changed."""
    length = np.sqrt(np.square(slots).sum(axis=1, keepdims=True)) + np.float32(TINY)
    keys, queries = slots / length, unit(codes)
    logits = queries @ keys.T / np.float32(reading.temperature)
    if reading.nearest:
        least = np.partition(logits, -reading.nearest, axis=1)[:, -reading.nearest, None]
        logits = np.where(logits < least, np.float32(-np.inf), logits)
    shares = shares_of(logits, np.float32(reading.shrinkage))
    inner = shares @ slots @ decoder.first + decoder.first_bias
    made = np.maximum(inner, np.float32(0.0)) @ decoder.second + decoder.second_bias
    error = (made - targets) * np.float32(2.0 / targets.size)
    by_read = ((error @ decoder.second.T) * (inner > 0.0)) @ decoder.first.T
    by_share = by_read @ slots.T
    by_logit = shares * (by_share - (shares * by_share).sum(axis=1, keepdims=True))
    by_key = by_logit.T @ queries / np.float32(reading.temperature)
    along = (by_key * keys).sum(axis=1, keepdims=True)
    gradient: Gradient = shares.T @ by_read + (by_key - along * keys) / length
    return gradient
