"""Convert child: one trained network to a float and an int8 `.tflite` file, in its own process.

In: a folder with `job.json`, `weights.npz`, `representative.npy` (scaled normal windows).
Out: `float.tflite` and, if asked for, `int8.tflite` and `layers.json`, or `encoder.tflite` and
`decoder.tflite`. Never: runs inside the
converter's own process: where TensorFlow's converter fails, it may end the process by a signal.

An LSTM goes through tf_keras (Keras 3 segfaults) with a fixed batch of 1, everything else from
Keras 3 frozen with a batch of 1 (tf_keras makes convolutions ten times as large; with any batch a
dense network works out its own shape on each call). The builder is the same, the copied weights
give the same output. Of a memory autoencoder the float file is the whole network, the int8 file its
encoder.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.layers import layer_errors
from converter.models import ModelSettings, build_model
from converter.models.memory import build_encoder, split_weights
from converter.models.stepping import step_functions
from converter.models.training import read_model_settings

Make = Callable[[Any], Any]


def main(folder: Path) -> None:
    """The child's side of `quantize.convert`."""
    job = json.loads((folder / "job.json").read_text())
    settings = read_model_settings(job["model"])
    os.environ["TF_USE_LEGACY_KERAS"] = "1" if settings.recurrent else "0"
    with np.load(folder / "weights.npz") as stored:
        weights = [stored[key] for key in stored.files]
    keras, make = _route(settings)
    whole = build_model(keras, settings)
    whole.set_weights(weights)
    float_file = bytes(make(whole).convert())
    (folder / "float.tflite").write_bytes(float_file)
    if not job["int8"]:
        return
    if job["form"] == "step":
        _write_steps(folder, settings, weights, job["rows"])
        return
    windows = np.load(folder / "representative.npy")
    shipped = whole
    if settings.memory:
        shipped = build_encoder(keras, settings)
        shipped.set_weights(split_weights(weights).encoder)
        float_file = bytes(make(shipped).convert())
    large = windows * np.float32(job["headroom"])
    int8_file = _to_int8(make(shipped), large, job["activations"])
    (folder / "int8.tflite").write_bytes(int8_file)
    layers = layer_errors(float_file, int8_file, windows)
    (folder / "layers.json").write_text(json.dumps([layer._asdict() for layer in layers]))


def _write_steps(folder: Path, settings: ModelSettings, weights: list[Any], rows: int) -> None:
    """Weights in int8, states and activations in float: what is passed on from call to call must
    not be rounded each time."""
    import tensorflow

    functions = step_functions(tensorflow, weights, settings.features, rows)
    for name, function in zip(("encoder", "decoder"), functions, strict=True):
        converter = tensorflow.lite.TFLiteConverter.from_concrete_functions([function])
        converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True
        (folder / f"{name}.tflite").write_bytes(converter.convert())


def _to_int8(converter: Any, windows: NDArray[np.float32], activations: str) -> bytes:
    import tensorflow

    operations = tensorflow.lite.OpsSet
    wide = operations.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
    narrow = activations == "int8"
    converter.optimizations = [tensorflow.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([window[None]] for window in windows)
    converter.target_spec.supported_ops = [operations.TFLITE_BUILTINS_INT8 if narrow else wide]
    ends = tensorflow.int8 if narrow else tensorflow.int16
    converter.inference_input_type = converter.inference_output_type = ends
    # One scale a dense layer: 24 bytes less an output, no loss, and old runtimes can read it.
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    return bytes(converter.convert())


def _route(settings: ModelSettings) -> tuple[Any, Make]:
    """The Keras to build in, and what makes a TFLite converter of a model."""
    if settings.recurrent:
        import tf_keras

        return tf_keras, _from_twin
    import keras

    return keras, _from_frozen


def _from_twin(model: Any) -> Any:
    import tensorflow

    concrete = _batch_of_one(model)
    return tensorflow.lite.TFLiteConverter.from_concrete_functions([concrete], model)


def _from_frozen(model: Any) -> Any:
    import tensorflow
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    frozen = convert_variables_to_constants_v2(_batch_of_one(model))
    return tensorflow.lite.TFLiteConverter.from_concrete_functions([frozen])


def _batch_of_one(model: Any) -> Any:
    import tensorflow

    shape = (1, *model.inputs[0].shape[1:])
    forward = tensorflow.function(
        lambda x: model(x, training=False),
        input_signature=[tensorflow.TensorSpec(shape, tensorflow.float32)],
    )
    return forward.get_concrete_function()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
