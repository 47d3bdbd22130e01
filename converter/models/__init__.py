"""models: the networks and their training. Builders take the Keras module as an argument, because
training (Keras 3) and conversion of an LSTM (tf_keras) must share one definition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from converter.models.conv import build_conv
from converter.models.dense import build_dense
from converter.models.lstm import build_lstm
from converter.models.memory import MemorySettings, build_memory

BUILDERS = {"lstm": build_lstm, "dense": build_dense, "conv": build_conv, "memory": build_memory}
FAMILIES = tuple(BUILDERS)
# What has nothing to do on a window of one step.
ALONG_TIME = frozenset({"lstm", "conv", "memory"})
DEFAULT_UNITS = {
    "lstm": (64, 32),
    "dense": (256, 128, 16, 128, 256),
    "conv": (64, 64, 4),
    "memory": (64,),
}
CONV_ENCODER_UNITS = (32, 64, 128)
DEFAULT_ACTIVATION = {"lstm": "tanh", "dense": "relu", "conv": "relu", "memory": "tanh"}
DEFAULT_LOSSES = {"memory": (("recency", 1.0),)}
MSE = (("mse", 1.0),)


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """One network: float32[steps, features] to the same shape. `memory` for that family only."""

    family: str
    steps: int
    features: int
    units: tuple[int, ...]
    activation: str
    memory: MemorySettings | None = None

    @property
    def recurrent(self) -> bool:
        """Whether there is an LSTM in it, which only tf_keras can convert."""
        return self.family == "lstm" or (self.memory is not None and self.memory.encoder == "lstm")

    @property
    def int8_refusal(self) -> str | None:
        """Why no good int8 model of it can be made, or None."""
        if self.recurrent and self.activation != "tanh":
            return (
                f"int8 refused: only a tanh LSTM becomes one fused int8 operation; with "
                f"{self.activation} the converter crashes or unrolls it to more than the float "
                "model's size with float operations left: use --activation tanh"
            )
        return None


def default_units(family: str, memory: MemorySettings | None = None) -> tuple[int, ...]:
    """The sizes where none are given."""
    if memory is not None and memory.encoder == "conv":
        return CONV_ENCODER_UNITS
    return DEFAULT_UNITS[family]


def default_activation(family: str, memory: MemorySettings | None = None) -> str:
    """The activation where none is given."""
    if memory is not None and memory.encoder == "conv":
        return DEFAULT_ACTIVATION["conv"]
    return DEFAULT_ACTIVATION[family]


def build_model(keras: Any, settings: ModelSettings, denoise: float = 0.0) -> Any:
    """The network in the given Keras; `denoise` (standard deviations) acts in training only and
    has no weights."""
    return BUILDERS[settings.family](keras, settings, denoise)
