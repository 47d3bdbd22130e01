"""models: the networks and their training. Builders take the Keras module as an argument, because
training (Keras 3) and conversion of an LSTM (tf_keras) must share one definition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from converter.models.dense import build_dense
from converter.models.lstm import build_lstm

BUILDERS = {"lstm": build_lstm, "dense": build_dense}
DEFAULT_UNITS = {"lstm": (64, 32), "dense": (256, 128, 16, 128, 256)}
DEFAULT_ACTIVATION = {"lstm": "tanh", "dense": "relu"}


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """One network: float32[steps, features] to the same shape."""

    family: str
    steps: int
    features: int
    units: tuple[int, ...]
    activation: str

    @property
    def int8_refusal(self) -> str | None:
        """Why no good int8 model of it can be made, or None."""
        if self.family == "lstm" and self.activation != "tanh":
            return (
                f"int8 refused: only a tanh LSTM becomes one fused int8 operation; with "
                f"{self.activation} the converter crashes or unrolls it to more than the float "
                "model's size with float operations left: use --activation tanh"
            )
        return None


def build_model(keras: Any, settings: ModelSettings, denoise: float = 0.0) -> Any:
    """The network in the given Keras; `denoise` (standard deviations) acts in training only and
    has no weights."""
    return BUILDERS[settings.family](keras, settings, denoise)
