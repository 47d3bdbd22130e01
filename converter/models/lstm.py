"""LSTM autoencoder: for slow channels, whose shape in time is what matters.

In: the Keras module and the sizes. Out: a model, float32[steps, features] to the same shape.
Never: trains, imports a Keras itself.

    LSTM a -> LSTM b -> RepeatVector -> LSTM b -> LSTM a -> TimeDistributed Dense

With tanh each LSTM becomes one fused int8 operation; with anything else it does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converter.models import ModelSettings


def build_lstm(keras: Any, settings: ModelSettings, denoise: float = 0.0) -> Any:
    """`settings.units` are (a, b)."""
    layers = keras.layers
    outer, inner = settings.units
    source = keras.Input((settings.steps, settings.features))
    noisy = layers.GaussianNoise(denoise)(source) if denoise else source

    def lstm(units: int, sequences: bool) -> Any:
        return layers.LSTM(units, activation=settings.activation, return_sequences=sequences)

    encoded = lstm(inner, False)(lstm(outer, True)(noisy))
    repeated = layers.RepeatVector(settings.steps)(encoded)
    decoded = lstm(outer, True)(lstm(inner, True)(repeated))
    sink = layers.TimeDistributed(layers.Dense(settings.features))(decoded)
    return keras.Model(source, sink)
