"""Bundles for the tests of the agent: a small honest one, and variations of it.

A linear autoencoder (16 principal directions of healthy vibration) as int8, made in a second
process because TensorFlow must not live in the one that tests the gateway. Kept under build/.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundle import MANIFEST_NAME, MODEL_NAME, read_bundle
from edge_agent.front_end import make_front_end
from edge_agent.interpreter import Interpreter
from edge_agent.manifest import AlarmSpec, FileEntry, Manifest, NormalError, Scaler
from edge_agent.scoring import Scorer
from edge_agent.threshold import commission
from firmware_bridge.signals import VibrationMachine
from tests.conftest import ROOT
from tests.manifests import spectral_manifest

CACHE = ROOT / "build" / "test-bundles"
DIRECTIONS = 16

CONVERT = """
import sys
import numpy as np
import tensorflow as tf
data = np.load(sys.argv[1])
n, features = data["directions"].shape
encode = tf.constant(data["directions"].T)
decode = tf.constant(data["directions"])

class Linear(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([1, 1, features], tf.float32)])
    def __call__(self, x):
        return tf.reshape((tf.reshape(x, [1, features]) @ encode) @ decode, [1, 1, features])

model = Linear()
functions = [model.__call__.get_concrete_function()]
converter = tf.lite.TFLiteConverter.from_concrete_functions(functions, model)
converter.optimizations = [tf.lite.Optimize.DEFAULT]
converter.representative_dataset = lambda: ([row.reshape(1, 1, -1)] for row in data["rows"])
converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
converter.inference_input_type = converter.inference_output_type = tf.int8
open(sys.argv[2], "wb").write(converter.convert())
"""


def vibration_bundle() -> Path:
    """Judges the simulated vibration machine of any seed; made once, then kept."""
    path = CACHE / "vibration.otolith"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        _build(path)
    return path


def changed(bundle: Path, path: Path, **fields: Any) -> Path:
    """The same bundle with other fields in its manifest, written to `path`."""
    read = read_bundle(bundle)
    document = read.manifest.model_copy(update=fields).model_dump_json().encode()
    _write(path, document, read.model)
    return path


def _healthy(seed: int, seconds: int) -> NDArray[np.float32]:
    manifest = spectral_manifest()
    front_end = make_front_end(manifest.front_end, manifest.sensor)
    rate = int(manifest.sensor.rate_hz)
    values = VibrationMachine(seed, rate).values(0, seconds * rate).astype(np.float32)
    length, hop = manifest.window.length, manifest.window.hop
    starts = range(0, len(values) - length, hop)
    return np.vstack([front_end.features(values[at : at + length]) for at in starts])


def _build(path: Path) -> None:
    draft = spectral_manifest()
    features = np.vstack([_healthy(seed, 60) for seed in (1, 2, 3, 7, 8)])
    centre, scale = features.mean(axis=0), features.std(axis=0) * 3 + 1e-3
    scaler = Scaler(centre=tuple(map(float, centre)), scale=tuple(map(float, scale)))
    rows = ((features - centre) / scale).astype(np.float32)
    _, _, directions = np.linalg.svd(rows, full_matrices=False)
    arrays, model_file = path.with_suffix(".npz"), path.with_suffix(".tflite")
    np.savez(arrays, directions=directions[:DIRECTIONS].astype(np.float32), rows=rows[::4])
    command = [sys.executable, "-c", CONVERT, str(arrays), str(model_file)]
    subprocess.run(command, check=True, capture_output=True)
    content = model_file.read_bytes()
    front_end = make_front_end(draft.front_end, draft.sensor)
    scorer, model = Scorer(scaler, draft.normal_error, front_end.channel_of), Interpreter(content)
    held_out = [scorer.scale(row[None]) for row in _healthy(11, 60)]
    scores = np.array([scorer.score(0.0, row, model(row)).value for row in held_out])
    errors = np.square([(row - model(row))[0] for row in held_out])
    _write(
        path, _manifest(draft, scaler, scores, errors, content).model_dump_json().encode(), content
    )


def _manifest(
    draft: Manifest, scaler: Scaler, scores: NDArray[np.float64], errors: NDArray[np.float64],
    content: bytes,
) -> Manifest:  # fmt: skip
    return draft.model_copy(
        update={
            "name": "tiny-vibration",
            "scaler": scaler,
            "threshold": commission(scores, q=0.99, factor=2.0),
            "alarm": AlarmSpec(on_delay_windows=2, off_delay_windows=3),
            "normal_error": NormalError(
                by_feature=tuple(map(float, np.quantile(errors, 0.99, axis=0) + 1e-9)),
                by_step=(float(np.quantile(errors.mean(axis=1), 0.99)),),
            ),
            "measures": {"int8": {"auc": 0.99}, "float": {"auc": 0.99}, "linear": {"auc": 0.98}},
            "files": {
                MODEL_NAME: FileEntry(
                    sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)
                )
            },
        }
    )


def _write(path: Path, document: bytes, model: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(MANIFEST_NAME, document)
        archive.writestr(MODEL_NAME, model)
