"""Convert child: one trained network to a float and an int8 `.tflite` file, in its own process.

In: a folder with `job.json`, `weights.npz`, `representative.npy` (scaled normal windows).
Out: `float.tflite` and, if asked for, `int8.tflite` there. Never: runs inside the converter's own
process: where TensorFlow's converter fails, it may end the process by a signal.

An LSTM goes through tf_keras (Keras 3 segfaults) with a fixed batch of 1, a dense network straight
from Keras 3. The builder is the same, the copied weights give the same output.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.models import ModelSettings, build_model
from converter.models.training import read_model_settings


def main(folder: Path) -> None:
    """The child's side of `quantize.convert`."""
    job = json.loads((folder / "job.json").read_text())
    settings = read_model_settings(job["model"])
    os.environ["TF_USE_LEGACY_KERAS"] = "1" if settings.family == "lstm" else "0"
    with np.load(folder / "weights.npz") as stored:
        weights = [stored[key] for key in stored.files]
    source = _lstm if settings.family == "lstm" else _dense
    model, make = source(settings, weights)
    (folder / "float.tflite").write_bytes(make(model).convert())
    if job["int8"]:
        windows = np.load(folder / "representative.npy") * np.float32(job["headroom"])
        (folder / "int8.tflite").write_bytes(_to_int8(make(model), windows))


def _to_int8(converter: Any, windows: NDArray[np.float32]) -> bytes:
    import tensorflow

    converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([window[None]] for window in windows)
    converter.target_spec.supported_ops = [tensorflow.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tensorflow.int8
    # One scale a dense layer: 24 bytes less an output, no loss, and old runtimes can read it.
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    return bytes(converter.convert())


def _dense(settings: ModelSettings, weights: list[Any]) -> tuple[Any, Any]:
    import keras
    import tensorflow

    model = build_model(keras, settings)
    model.set_weights(weights)
    return model, tensorflow.lite.TFLiteConverter.from_keras_model


def _lstm(settings: ModelSettings, weights: list[Any]) -> tuple[Any, Any]:
    import tensorflow
    import tf_keras

    twin = build_model(tf_keras, settings)
    twin.set_weights(weights)
    shape = (1, settings.steps, settings.features)
    forward = tensorflow.function(
        lambda x: twin(x, training=False),
        input_signature=[tensorflow.TensorSpec(shape, tensorflow.float32)],
    )
    concrete = forward.get_concrete_function()
    return twin, lambda model: tensorflow.lite.TFLiteConverter.from_concrete_functions(
        [concrete], model
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
