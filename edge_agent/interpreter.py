"""Interpreter: the only file that knows LiteRT.

In: the bytes of a `.tflite` model. Out: a callable, float32[steps, features] to the same shape.
Never: carries state from one window to the next, scores, reads files.

int8 in and out: the window is quantised straight into the input tensor's own memory, and the
output is read where the interpreter wrote it; no copy lies between.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

try:
    from ai_edge_litert import interpreter as runtime
except ImportError:  # 32-bit Arm has no LiteRT wheel; the class is the same
    from tflite_runtime import interpreter as runtime

INT8_LOW, INT8_HIGH = -128, 127


class ModelError(ValueError):
    """The model can't be run here; the text says why."""


class _Tensor(NamedTuple):
    view: Callable[[], NDArray[Any]]
    scale: np.float32
    zero_point: np.float32


class Interpreter:
    """One model on one thread. Raises `ModelError` for bytes that are no usable model."""

    def __init__(self, model: bytes) -> None:
        try:
            self._runtime = runtime.Interpreter(model_content=model, num_threads=1)
            self._runtime.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"the interpreter refuses the model: {error}") from None
        source, sink = self._runtime.get_input_details(), self._runtime.get_output_details()
        if len(source) != 1 or len(sink) != 1:
            raise ModelError(f"model has {len(source)} inputs and {len(sink)} outputs, expected 1")
        self.dtype = np.dtype(source[0]["dtype"])
        self.shape = tuple(int(size) for size in source[0]["shape"])
        if self.dtype not in (np.dtype(np.int8), np.dtype(np.float32)):
            raise ModelError(f"model eats {self.dtype}, expected int8 (or float32 for comparison)")
        if sink[0]["dtype"] != source[0]["dtype"] or tuple(sink[0]["shape"]) != self.shape:
            raise ModelError("an autoencoder's output must look like its input")
        self._input, self._output = self._tensor(source[0]), self._tensor(sink[0])
        self._run = self._run_int8 if self.dtype == np.int8 else self._run_float

    def __call__(self, scaled: NDArray[np.float32]) -> NDArray[np.float32]:
        """The reconstruction of one scaled window, dequantised."""
        # A fused LSTM keeps its state between invokes: without this the second window is wrong.
        self._runtime.reset_all_variables()
        return self._run(scaled)

    def _run_int8(self, scaled: NDArray[np.float32]) -> NDArray[np.float32]:
        levels = np.rint(scaled / self._input.scale + self._input.zero_point)
        # The view must be gone before `invoke`, so it has no name.
        np.clip(levels, INT8_LOW, INT8_HIGH, out=self._input.view()[0], casting="unsafe")
        self._runtime.invoke()
        levels = self._output.view()[0] - self._output.zero_point
        values: NDArray[np.float32] = np.multiply(levels, self._output.scale, dtype=np.float32)
        return values

    def _run_float(self, scaled: NDArray[np.float32]) -> NDArray[np.float32]:
        self._input.view()[0] = scaled
        self._runtime.invoke()
        return np.array(self._output.view()[0])

    def _tensor(self, details: dict[str, Any]) -> _Tensor:
        scale, zero_point = details["quantization"]
        view = self._runtime.tensor(details["index"])
        return _Tensor(view, np.float32(scale), np.float32(zero_point))
