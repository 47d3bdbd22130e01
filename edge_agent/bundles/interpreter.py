"""Interpreter: the only file that knows LiteRT.

In: the bytes of a `.tflite` model. Out: a callable, float32 arrays to float32 arrays.
Never: carries state from one window to the next, scores, reads files.

int8 in and out: the window's levels are written to the input tensor's own memory, and the output
is read where the interpreter wrote it. The bare `invoke` of a small network takes less than the
NumPy around it, so that is kept to as few calls as it can be.
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

# The package's name on the index, and whether it computes int8 networks with XNNPACK.
RUNTIME = runtime.__name__.partition(".")[0].replace("_", "-")
HAS_XNNPACK = RUNTIME == "ai-edge-litert"

DTYPES = (np.dtype(np.int8), np.dtype(np.int16), np.dtype(np.float32))


class ModelError(ValueError):
    """The model can't be run here; the text says why."""


class _Tensor(NamedTuple):
    """`scale` to `high` are arrays of no dimension: NumPy converts anything else on each call, and
    on windows this small that is most of what a call costs. `scratch` is one window in float."""

    view: Callable[[], NDArray[Any]]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    quantised: bool
    scale: NDArray[np.float32]
    zero_point: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    scratch: NDArray[np.float32]


class Network:
    """One model on one thread, any number of inputs and outputs, each with a batch of 1.

    Raises `ModelError` for bytes that are no usable model.
    """

    def __init__(self, model: bytes) -> None:
        try:
            self._runtime = runtime.Interpreter(model_content=model, num_threads=1)
            self._runtime.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"the interpreter refuses the model: {error}") from None
        self._inputs = [self._tensor(details) for details in self._runtime.get_input_details()]
        self._outputs = [self._tensor(details) for details in self._runtime.get_output_details()]

    @property
    def input_shapes(self) -> tuple[tuple[int, ...], ...]:
        """In order, each with its leading 1."""
        return tuple(tensor.shape for tensor in self._inputs)

    @property
    def output_shapes(self) -> tuple[tuple[int, ...], ...]:
        """In order, each with its leading 1."""
        return tuple(tensor.shape for tensor in self._outputs)

    @property
    def delegated(self) -> bool | None:
        """Whether XNNPACK computes part of it: without it (no readable /proc/cpuinfo) the numbers
        are others. None: this runtime has none for int8."""
        if not HAS_XNNPACK:
            return None
        # No public call tells.
        return any("DELEGATE" in each["op_name"] for each in self._runtime._get_ops_details())

    def __call__(self, *values: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """The outputs, dequantised and without their batch."""
        # A fused LSTM keeps its state between invokes: without this the second window is wrong.
        self._runtime.reset_all_variables()
        for tensor, value in zip(self._inputs, values, strict=True):
            _write(tensor, value)
        self._runtime.invoke()
        return [_read(tensor) for tensor in self._outputs]

    def invoke(self) -> None:
        """The bare network on what its inputs hold already: for measuring what lies around it."""
        self._runtime.invoke()

    def _tensor(self, details: dict[str, Any]) -> _Tensor:
        dtype, (scale, zero_point) = np.dtype(details["dtype"]), details["quantization"]
        if dtype not in DTYPES:
            raise ModelError(f"model has {dtype} at its ends, expected int8 (or float32, int16)")
        shape = tuple(int(size) for size in details["shape"])
        if not shape or shape[0] != 1:
            raise ModelError(f"model has {shape} at its ends, expected a batch of 1")
        view = self._runtime.tensor(details["index"])
        quantised = dtype.kind == "i"
        low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max) if quantised else (0, 0)
        return _Tensor(
            view, shape, dtype, quantised,
            _single(scale), _single(zero_point), _single(low), _single(high),
            np.empty(shape[1:], np.float32),
        )  # fmt: skip


class Interpreter(Network):
    """One autoencoder on one thread. Raises `ModelError` for bytes that are no usable model."""

    def __init__(self, model: bytes) -> None:
        super().__init__(model)
        if len(self._inputs) != 1 or len(self._outputs) != 1:
            raise ModelError(
                f"model has {len(self._inputs)} inputs and {len(self._outputs)} outputs, expected 1"
            )
        self._input, self._output = self._inputs[0], self._outputs[0]
        self.dtype, self.shape = self._input.dtype, self._input.shape
        if (self._output.dtype, self._output.shape) != (self.dtype, self.shape):
            raise ModelError("an autoencoder's output must look like its input")

    def __call__(  # type: ignore[override]  # one window in, one out
        self, scaled: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """The reconstruction of one scaled window, dequantised."""
        # A fused LSTM keeps its state between invokes: without this the second window is wrong.
        self._runtime.reset_all_variables()
        return self._run(scaled)

    def _run(self, scaled: NDArray[np.float32]) -> NDArray[np.float32]:
        _write(self._input, scaled)
        self._runtime.invoke()
        return _read(self._output)


def _single(number: float) -> NDArray[np.float32]:
    return np.array(number, np.float32)


def _write(tensor: _Tensor, values: NDArray[np.float32]) -> None:
    # The view must be gone before `invoke`, so it has no name.
    if not tensor.quantised:
        tensor.view()[0] = values
        return
    levels = tensor.scratch
    np.divide(values, tensor.scale, out=levels)
    np.add(levels, tensor.zero_point, out=levels)
    np.rint(levels, out=levels)
    # Not `np.clip`, which costs as much as all the rest.
    np.maximum(levels, tensor.low, out=levels)
    np.minimum(levels, tensor.high, out=levels)
    tensor.view()[0] = levels


def _read(tensor: _Tensor) -> NDArray[np.float32]:
    if not tensor.quantised:
        return np.array(tensor.view()[0])
    values: NDArray[np.float32] = tensor.view()[0].astype(np.float32)
    values -= tensor.zero_point
    values *= tensor.scale
    return values
