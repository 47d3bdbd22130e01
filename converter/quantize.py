"""Quantize: trained weights to a float and an int8 `.tflite` file that has been looked at.

In: the network, its weights, scaled normal windows. Out: two model files, stripped.
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
from converter.models import ModelSettings
from converter.models.training import Weights
from converter.tflite_file import int8_objections, strip

# Measured once: on held-out normal windows 1.0 and 1.5 are alike when the windows are spread (rank
# correlation with float .9993 and .9988 dense, .9997 and .9996 LSTM); with CWRU's faults among them
# 1.5 is a little better (.9944 against .9931).
HEADROOM = 1.5
REPRESENTATIVE_WINDOWS = 100
TIMEOUT_SECONDS = 600.0
MODULE = "converter.convert_child"


class Converted(NamedTuple):
    """Stripped model files; `int8` None if it was not asked for."""

    float32: bytes
    int8: bytes | None


def convert(
    model: ModelSettings,
    weights: Weights,
    representative: NDArray[np.float32],
    headroom: float = HEADROOM,
    int8: bool = True,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> Converted:
    """Converts in a child process. Raises `ConverterError` if it dies or leaves a bad file."""
    with tempfile.TemporaryDirectory(prefix="otolith-") as name:
        folder = Path(name)
        job = {"model": asdict(model), "headroom": headroom, "int8": int8}
        (folder / "job.json").write_text(json.dumps(job))
        np.savez(folder / "weights.npz", *weights)
        np.save(folder / "representative.npy", representative.astype(np.float32))
        run_child(MODULE, folder, "the conversion to TFLite", timeout_seconds)
        float32 = strip((folder / "float.tflite").read_bytes())
        quantized = strip((folder / "int8.tflite").read_bytes()) if int8 else None
    if quantized is not None:
        objections = int8_objections(quantized)
        if objections:
            raise ConverterError(f"the int8 model is not one: {'; '.join(objections)}")
    return Converted(float32, quantized)


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
