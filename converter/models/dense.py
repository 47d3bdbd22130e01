"""Dense autoencoder: for spectra, where one window is one vector.

In: the Keras module and the sizes. Out: a model, float32[steps, features] to the same shape.
Never: trains, imports a Keras itself.

The default is as large as it is because of int8: a small network keeps its fixed 10 kB in any
format, and only from about 100,000 weights on is the int8 file under 30 % of the float file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converter.models import ModelSettings


def build_dense(keras: Any, settings: ModelSettings, denoise: float = 0.0) -> Any:
    """`settings.units` are the hidden layers, the narrowest is the code."""
    layers = keras.layers
    size = settings.steps * settings.features
    source = keras.Input((settings.steps, settings.features))
    flow = layers.GaussianNoise(denoise)(source) if denoise else source
    flow = layers.Reshape((size,))(flow)
    for units in settings.units:
        flow = layers.Dense(units, activation=settings.activation)(flow)
    flow = layers.Dense(size)(flow)
    return keras.Model(source, layers.Reshape((settings.steps, settings.features))(flow))
