"""Memory autoencoder: each time step may only be rebuilt from stored examples of the normal.

In: the Keras module and the sizes. Out: models: the whole one, float32[steps, features] to the
same shape; its encoder alone; the read alone. Never: trains, imports a Keras itself.

    encoder -> z[steps, dim] -> cosine to each slot -> softmax -> mixed slots -> Dense -> Dense

The encoder is a bidirectional LSTM or three convolutions. What ships is the encoder in int8; the
memory is read in float by the gateway (`edge_agent.bundles.memory`), because the softmax over 100
slots does not survive int8's steps of 1/256.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundles.manifest import MAX_SLOTS_READ

if TYPE_CHECKING:
    from converter.models import ModelSettings

KERNELS = (7, 7, 3)
HIDDEN_PER_FEATURE = 2
WEIGHTS_BEHIND_ENCODER = 5
LSTM_WEIGHTS = 3
NEAREST_SLOTS = 64
# The logarithm of no share at all.
NOTHING = -1e9


@dataclass(frozen=True, slots=True)
class MemorySettings:
    """`encoder` is `lstm` or `conv`. Cosines are divided by `temperature` before the softmax;
    shares of the slots under `shrinkage` become 0 (0: none do)."""

    encoder: str = "lstm"
    slots: int = 100
    temperature: float = 0.1
    shrinkage: float = 0.0

    @property
    def nearest(self) -> int:
        """How many of the slots each code reads; 0: all. Of a large memory only these few: the
        rest would cost most of the time and say nothing."""
        return NEAREST_SLOTS if self.slots > MAX_SLOTS_READ else 0


class MemoryWeights(NamedTuple):
    """The weights of a trained network by what they are for."""

    encoder: list[NDArray[Any]]
    memory: NDArray[np.float32]
    decoder: list[NDArray[Any]]


def split_weights(weights: list[NDArray[Any]]) -> MemoryWeights:
    """In the order of Keras: encoder, memory [slots, dim], two dense layers of the decoder."""
    at = len(weights) - WEIGHTS_BEHIND_ENCODER
    return MemoryWeights(weights[:at], weights[at], weights[at + 1 :])


def code_size(settings: ModelSettings) -> int:
    """Numbers of one step's code."""
    both = _spec(settings).encoder == "lstm"
    return 2 * settings.units[0] if both else settings.units[-1]


def build_memory(keras: Any, settings: ModelSettings, denoise: float = 0.0) -> Any:
    """The whole network; its layers `latent` and `memory` are named for the training."""
    layers, spec = keras.layers, _spec(settings)
    source = keras.Input((settings.steps, settings.features))
    noisy = layers.GaussianNoise(denoise)(source) if denoise else source
    if spec.encoder == "lstm":
        lstm = _lstm(keras, settings)
        latent = layers.Bidirectional(lstm, name="latent")(noisy)
    else:
        latent = _convolutions(keras, settings, noisy)
    read = memory_layer(keras)(spec, name="memory")(latent)
    hidden = layers.Dense(HIDDEN_PER_FEATURE * settings.features, activation="relu")
    flow = layers.TimeDistributed(hidden)(read)
    return keras.Model(source, layers.TimeDistributed(layers.Dense(settings.features))(flow))


def build_encoder(keras: Any, settings: ModelSettings) -> Any:
    """The encoder alone, for int8. An LSTM's has two outputs, forward and backward, the latter
    with its last step first: a concatenation would force one scale on both, and the int8 LSTM
    does not learn of it."""
    source = keras.Input((settings.steps, settings.features))
    if _spec(settings).encoder == "conv":
        return keras.Model(source, _convolutions(keras, settings, source))
    forward = _lstm(keras, settings)(source)
    backward = _lstm(keras, settings, go_backwards=True)(source)
    return keras.Model(source, [forward, backward])


def memory_layer(keras: Any) -> Any:
    """The layer's class for this Keras; its one weight is the memory [slots, dim]."""
    import tensorflow

    class Memory(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
        def __init__(self, spec: MemorySettings, name: str | None = None) -> None:
            super().__init__(name=name)
            self._spec = spec

        def build(self, shape: Any) -> None:
            self.memory = self.add_weight(
                name="memory", shape=(self._spec.slots, shape[-1]), initializer="glorot_uniform"
            )

        def shares(self, latent: Any) -> Any:
            """Softmax of the cosines [batch x steps, slots]."""
            query = tensorflow.math.l2_normalize(latent, axis=-1)
            keys = tensorflow.math.l2_normalize(tensorflow.convert_to_tensor(self.memory), axis=-1)
            flat = tensorflow.reshape(query, (-1, latent.shape[-1]))
            logits = tensorflow.matmul(flat, keys, transpose_b=True) / self._spec.temperature
            if self._spec.nearest:
                logits = only_largest(tensorflow, logits, self._spec.nearest)
            shares = tensorflow.nn.softmax(logits)
            least = self._spec.shrinkage
            return shrink(tensorflow, shares, least) if least else shares

        def call(self, latent: Any) -> Any:
            read = tensorflow.matmul(self.shares(latent), tensorflow.convert_to_tensor(self.memory))
            return tensorflow.reshape(read, (-1, *latent.shape[1:]))

    return Memory


def only_largest(tensorflow: Any, logits: Any, count: int) -> Any:
    """All but the `count` largest of each row are so small that their share is 0."""
    least = tensorflow.math.top_k(logits, count).values[:, -1:]
    return tensorflow.where(logits < least, NOTHING * tensorflow.ones_like(logits), logits)


def shrink(tensorflow: Any, shares: Any, least: float) -> Any:
    """Shares under `least` become 0, continuously, and the rest sum to 1 again (Gong et al.,
    ICCV 2019, equation 7)."""
    over = shares - least
    kept = tensorflow.nn.relu(over) * shares / (tensorflow.abs(over) + 1e-12)
    return kept / (tensorflow.reduce_sum(kept, axis=-1, keepdims=True) + 1e-12)


def _spec(settings: ModelSettings) -> MemorySettings:
    return settings.memory or MemorySettings()


def _lstm(keras: Any, settings: ModelSettings, go_backwards: bool = False) -> Any:
    return keras.layers.LSTM(
        settings.units[0],
        activation=settings.activation,
        return_sequences=True,
        go_backwards=go_backwards,
    )


def _convolutions(keras: Any, settings: ModelSettings, flow: Any) -> Any:
    last = len(settings.units) - 1
    for i, (filters, kernel) in enumerate(zip(settings.units, KERNELS, strict=True)):
        # The last is linear: a cosine has a sign.
        activation = None if i == last else settings.activation
        name = "latent" if i == last else None
        layer = keras.layers.Conv1D(
            filters, kernel, padding="same", activation=activation, name=name
        )
        flow = layer(flow)
    return flow
