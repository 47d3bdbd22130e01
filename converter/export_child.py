"""Export child: one trained network to a SavedModel, in its own process.

In: a folder with `job.json` (network, scaler, target) and `weights.npz`. Out: the SavedModel.
Never: leaves the scaler to the client: the signature eats what the front end makes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from converter.models import build_model
from converter.models.training import read_model_settings


def main(folder: Path) -> None:
    """The child's side of `export_command.export`."""
    import keras
    import tensorflow

    job = json.loads((folder / "job.json").read_text())
    settings = read_model_settings(job["model"])
    model = build_model(keras, settings)
    with np.load(folder / "weights.npz") as stored:
        model.set_weights([stored[key] for key in stored.files])
    centre = tensorflow.constant(job["scaler"]["centre"], tensorflow.float32)
    scale = tensorflow.constant(job["scaler"]["scale"], tensorflow.float32)

    def serve(features: Any) -> dict[str, Any]:
        scaled = (features - centre) / scale
        made = model(scaled, training=False)
        score = tensorflow.reduce_mean(tensorflow.square(scaled - made), axis=(1, 2))
        return {"reconstruction": made, "score": score}

    shape = (None, settings.steps, settings.features)
    spec = tensorflow.TensorSpec(shape, tensorflow.float32, name="features")
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serving_default", serve, input_signature=[spec])
    archive.write_out(job["target"], verbose=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
