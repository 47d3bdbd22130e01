"""Convolutional autoencoder: for waveforms and slow channels, small and fast in int8.

In: the Keras module and the sizes. Out: a model, float32[steps, features] to the same shape.
Never: trains, imports a Keras itself.

    Conv1D a -> b -> c, each halving the time    UpSampling + Conv1D c -> b -> a, mirrored

Every layer is a builtin int8 operation, so it keeps int8's speed where an LSTM loses it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converter.models import ModelSettings

KERNEL = 7


def build_conv(keras: Any, settings: ModelSettings, denoise: float = 0.0) -> Any:
    """`settings.units` are the filters of the encoder, the last is the code's."""
    layers = keras.layers
    source = keras.Input((settings.steps, settings.features))
    flow = layers.GaussianNoise(denoise)(source) if denoise else source

    def conv(filters: int, stride: int) -> Any:
        return layers.Conv1D(
            filters, KERNEL, strides=stride, padding="same", activation=settings.activation
        )

    for filters in settings.units:
        flow = conv(filters, 2)(flow)
    for filters in reversed(settings.units):
        flow = conv(filters, 1)(layers.UpSampling1D(2)(flow))
    flow = layers.Conv1D(settings.features, KERNEL, padding="same")(flow)
    surplus = -settings.steps % 2 ** len(settings.units)
    if surplus:
        flow = layers.Cropping1D((0, surplus))(flow)
    return keras.Model(source, flow)
