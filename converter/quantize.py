"""Quantize: trained weights to a float and an int8 `.tflite` file that has been looked at.

In: the network, its weights, scaled normal windows. Out: the float file and the members of a
bundle, stripped.
Never: accepts an int8 file with a float operation in it, picks windows that nobody can name.

The representative windows fix the int8 ranges. They are spread over the operating points, and fed
1.5 times too large, so that what is out of the ordinary still has room (int8 saturates).
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from converter.child import run_child
from converter.errors import ConverterError
from converter.layers import LayerError
from converter.models import ModelSettings
from converter.models.memory import MemorySettings, MemoryWeights, split_weights
from converter.models.training import Weights
from converter.tflite_file import int8_objections, strip
from edge_agent.bundles.frozen import Frozen
from edge_agent.bundles.manifest import (
    DECODER_MODEL,
    DECODER_NAME,
    MODEL_NAME,
    MemorySpec,
    SteppingSpec,
)
from edge_agent.bundles.slots import members_of, npy

# Measured once: on held-out normal windows 1.0 and 1.5 are alike when the windows are spread (rank
# correlation with float .9993 and .9988 dense, .9997 and .9996 LSTM); with CWRU's faults among them
# 1.5 is a little better (.9944 against .9931).
HEADROOM = 1.5
REPRESENTATIVE_WINDOWS = 100
# Of 50 steps: 2 rows a call are 32 % of the float file and slower than it, 5 are 37 % and faster,
# 10 are 45 %.
MOST_ROWS_OF_STEP = 5
TIMEOUT_SECONDS = 600.0
MODULE = "converter.convert_child"


class Converted(NamedTuple):
    """The float file, and the members of a bundle with int8 in them: empty if that was not asked
    for. `layers`: what int8 costs, operation by operation; `parts`: what a manifest's `model` says
    of the other members."""

    float32: bytes
    files: dict[str, bytes]
    layers: tuple[LayerError, ...]
    parts: dict[str, Frozen]

    @property
    def int8(self) -> bytes | None:
        """`model.tflite`, if there is one."""
        return self.files.get(MODEL_NAME)


def convert(
    model: ModelSettings,
    weights: Weights,
    representative: NDArray[np.float32],
    headroom: float = HEADROOM,
    int8: bool = True,
    timeout_seconds: float = TIMEOUT_SECONDS,
    activations: str = "int8",
    form: str = "fused",
) -> Converted:
    """Converts in a child process. Raises `ConverterError` if it dies or leaves a bad file."""
    with tempfile.TemporaryDirectory(prefix="otolith-") as name:
        folder = Path(name)
        rows = rows_of_step(model.steps)
        job = {"model": asdict(model), "headroom": headroom, "int8": int8,
               "activations": activations, "form": form, "rows": rows}  # fmt: skip
        (folder / "job.json").write_text(json.dumps(job))
        np.savez(folder / "weights.npz", *weights)
        np.save(folder / "representative.npy", representative.astype(np.float32))
        run_child(MODULE, folder, "the conversion to TFLite", timeout_seconds)
        float32 = _stripped(folder, "float")
        if not int8:
            return Converted(float32, {}, (), {})
        if form == "step":
            files = {MODEL_NAME: _stripped(folder, "encoder"),
                     DECODER_MODEL: _stripped(folder, "decoder")}  # fmt: skip
            outer, inner = model.units
            stepping = SteppingSpec(units=(outer, inner), rows=rows)
            return Converted(float32, files, (), {"stepping": stepping})
        quantized = _stripped(folder, "int8")
        layers = json.loads((folder / "layers.json").read_text())
    objections = int8_objections(quantized, activations)
    if objections:
        raise ConverterError(f"the {activations} model is not one: {'; '.join(objections)}")
    files, parts = {MODEL_NAME: quantized}, dict[str, Frozen]()
    if model.memory:
        files |= memory_files(split_weights(weights))
        parts["memory"] = memory_spec(model.memory, weights)
    return Converted(float32, files, tuple(LayerError(**layer) for layer in layers), parts)


def rows_of_step(steps: int) -> int:
    """How many rows a call of an LSTM in steps takes: more are faster, and larger."""
    return max(rows for rows in range(1, MOST_ROWS_OF_STEP + 1) if steps % rows == 0)


def _stripped(folder: Path, name: str) -> bytes:
    return strip((folder / f"{name}.tflite").read_bytes())


def memory_spec(memory: MemorySettings, weights: Weights) -> MemorySpec:
    """What the manifest says of a memory."""
    parts = split_weights(weights)
    slots, dim = parts.memory.shape
    return MemorySpec(
        slots=slots,
        dim=dim,
        hidden=len(parts.decoder[1]),
        temperature=memory.temperature,
        shrinkage=memory.shrinkage,
        nearest=memory.nearest,
    )


def memory_files(weights: MemoryWeights) -> dict[str, bytes]:
    """Each slot in int8 with a scale of its own; the decoder is small and stays float32."""
    decoder = np.concatenate([array.reshape(-1) for array in weights.decoder])
    return {**members_of(weights.memory), DECODER_NAME: npy(decoder.astype(np.float32))}


def representative_rows(
    windows: NDArray[np.float32], wanted: int = REPRESENTATIVE_WINDOWS
) -> NDArray[np.int64]:
    """Indices of windows that cover the operating points, in time order: each next one is the
    farthest from all chosen before (k-centre), beginning with the most usual one."""
    flat = windows.reshape(len(windows), -1).astype(np.float64)
    if len(flat) <= wanted:
        return np.arange(len(flat))
    first = int(np.argmin(np.square(flat - flat.mean(axis=0)).sum(axis=1)))
    chosen = [first]
    nearest = np.square(flat - flat[first]).sum(axis=1)
    while len(chosen) < wanted:
        chosen.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, np.square(flat - flat[chosen[-1]]).sum(axis=1))
    return np.sort(np.array(chosen))
