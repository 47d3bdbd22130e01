"""Layers: where in the network int8 loses what.

In: the float and the int8 file of one network with their tensors' names still in them, windows.
Out: for each operation that both have, how far its output is from float's. Never: judges.

The error of an operation is what int8 makes of it, all that came before included; what it has
`added` is that less the largest error among its inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

WINDOWS = 50
# Of an output that is hardly more than zero, a relative error says nothing.
LEAST_RMS = 1e-6


class LayerError(NamedTuple):
    """`error` and `added` are rms differences as shares of the rms of float's output."""

    name: str
    operation: str
    error: float
    added: float


def layer_errors(
    float_file: bytes, int8_file: bytes, windows: NDArray[np.float32]
) -> list[LayerError]:
    """In the order of computation. Operations that only one file has are left out."""
    before, after = _Probe(float_file), _Probe(int8_file)
    shared = [name for name in after.operations if name in before.operations]
    wrong = dict.fromkeys(shared, 0.0)
    power = dict.fromkeys(shared, 0.0)
    for window in windows[:WINDOWS]:
        before.run(window)
        after.run(window)
        for name in shared:
            expected = before.value(name)
            wrong[name] += float(np.mean(np.square(after.value(name) - expected)))
            power[name] += float(np.mean(np.square(expected)))
    error = {name: (wrong[name] / max(power[name], LEAST_RMS**2)) ** 0.5 for name in shared}
    found = []
    for name in shared:
        operation, inputs = after.operations[name]
        inherited = max((after.inherited(source, error) for source in inputs), default=0.0)
        found.append(LayerError(_short(name), operation, error[name], error[name] - inherited))
    return found


def worst(layers: Sequence[LayerError]) -> LayerError | None:
    """The one that has added most."""
    return max(layers, key=lambda layer: layer.added, default=None)


class _Probe:
    """A model whose inner tensors stay readable."""

    def __init__(self, content: bytes) -> None:
        import tensorflow

        lite = tensorflow.lite
        self._runtime = lite.Interpreter(
            model_content=content,
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=(
                lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            ),
        )
        self._runtime.allocate_tensors()
        self._details = {d["index"]: d for d in self._runtime.get_tensor_details()}
        self._index: dict[str, int] = {}
        self.operations: dict[str, tuple[str, list[int]]] = {}
        self._made_by: dict[int, str] = {}
        for operation in self._runtime._get_ops_details():
            for index in operation["outputs"]:
                name = self._details[index]["name"]
                inputs = [int(i) for i in operation["inputs"] if i >= 0]
                self._index[name] = index
                self._made_by[index] = name
                self.operations[name] = (operation["op_name"], inputs)

    def run(self, window: NDArray[np.float32]) -> None:
        """One window through the network."""
        source = self._runtime.get_input_details()[0]
        values: NDArray[Any] = window[None]
        if source["dtype"] != np.float32:
            limits = np.iinfo(source["dtype"])
            scale, zero_point = source["quantization"]
            levels = np.rint(values / scale) + zero_point
            values = np.clip(levels, limits.min, limits.max).astype(source["dtype"])
        self._runtime.reset_all_variables()
        self._runtime.set_tensor(source["index"], values)
        self._runtime.invoke()

    def value(self, name: str) -> NDArray[np.float64]:
        """What the operation of that name has made, dequantised."""
        index = self._index[name]
        scale, zero_point = self._details[index]["quantization"]
        values = np.asarray(self._runtime.get_tensor(index), np.float64)
        return (values - zero_point) * scale if scale else values

    def inherited(self, index: int, error: dict[str, float]) -> float:
        """The error that an input brings along, through operations that float has not."""
        name = self._made_by.get(index)
        if name is None:
            return 0.0
        if name in error:
            return error[name]
        return max((self.inherited(i, error) for i in self.operations[name][1]), default=0.0)


def _short(name: str) -> str:
    """Keras' paths without what every one of them has in common."""
    words = [word for word in name.split(";")[0].split("/") if not word.startswith("Statefull")]
    return "/".join(words[-3:])
