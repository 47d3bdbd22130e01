"""Training: fit and validation windows to weights. Runs as a process of its own.

In: a folder with `job.json`, `fit.npy`, `validation.npy` (scaled). Out: `weights.npz` there, and a
JSON line an epoch on standard output. Never: sees a held-out window, forgets a seed.

Keras and TensorFlow are imported when this runs, never when it is imported.
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.child import run_child
from converter.console import Steps
from converter.models import ModelSettings, build_model

Features = NDArray[np.float32]
Weights = list[NDArray[Any]]

PATIENCE_EPOCHS = 12
SLOWER_AFTER_EPOCHS = 5
SLOWER_FACTOR = 0.5
MODULE = "converter.models.training"


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How to fit. `denoise`: noise on the inputs, in standard deviations of a feature; the target
    stays clean."""

    epochs: int = 60
    batch_size: int = 32
    learning_rate: float = 0.001
    seed: int = 1
    denoise: float = 0.0
    tensorboard: str | None = None
    timeout_seconds: float = 3600.0


class Trained:
    """Weights in Keras order, and how the fit went."""

    def __init__(self, weights: Weights, epochs: int, loss: float, validation_loss: float) -> None:
        self.weights = weights
        self.epochs = epochs
        self.loss = loss
        self.validation_loss = validation_loss

    @property
    def parameters(self) -> int:
        """Trained numbers."""
        return sum(array.size for array in self.weights)


def train(
    model: ModelSettings, settings: TrainSettings, fit: Features, validation: Features, steps: Steps
) -> Trained:
    """Trains in a child process. Raises `ConverterError` if it fails."""
    history: list[dict[str, Any]] = []

    def on_line(line: dict[str, Any]) -> None:
        history.append(line)
        note = f"loss {line['loss']:.4f}  validation {line['val_loss']:.4f}"
        steps.advance(line["epoch"], note)

    steps.begin("training", settings.epochs)
    with tempfile.TemporaryDirectory(prefix="otolith-") as name:
        folder = Path(name)
        job = {"model": asdict(model), "settings": asdict(settings)}
        (folder / "job.json").write_text(json.dumps(job))
        np.save(folder / "fit.npy", fit)
        np.save(folder / "validation.npy", validation)
        run_child(MODULE, folder, "the training", settings.timeout_seconds, on_line)
        with np.load(folder / "weights.npz") as stored:
            weights = [stored[key] for key in stored.files]
    best = min(history, key=lambda line: float(line["val_loss"]))
    return Trained(weights, len(history), best["loss"], best["val_loss"])


def read_model_settings(fields: dict[str, Any]) -> ModelSettings:
    """What `asdict` made of it, back from JSON."""
    return ModelSettings(**{**fields, "units": tuple(fields["units"])})


def main(folder: Path) -> None:
    """The child's side."""
    import keras
    import tensorflow

    job = json.loads((folder / "job.json").read_text())
    settings = TrainSettings(**job["settings"])
    keras.utils.set_random_seed(settings.seed)
    tensorflow.config.experimental.enable_op_determinism()
    model = build_model(keras, read_model_settings(job["model"]), settings.denoise)
    model.compile(optimizer=keras.optimizers.Adam(settings.learning_rate), loss="mse")
    fit, validation = np.load(folder / "fit.npy"), np.load(folder / "validation.npy")
    model.fit(
        fit, fit,
        validation_data=(validation, validation),
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        callbacks=_callbacks(keras, settings),
        verbose=0,
    )  # fmt: skip
    np.savez(folder / "weights.npz", *model.get_weights())


def _callbacks(keras: Any, settings: TrainSettings) -> list[Any]:
    class Tell(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
            line = {"epoch": epoch + 1, "loss": logs["loss"], "val_loss": logs["val_loss"]}
            sys.stdout.write(json.dumps({key: float(value) for key, value in line.items()}) + "\n")
            sys.stdout.flush()

    callbacks = [
        keras.callbacks.EarlyStopping(patience=PATIENCE_EPOCHS, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau(factor=SLOWER_FACTOR, patience=SLOWER_AFTER_EPOCHS),
        Tell(),
    ]
    if settings.tensorboard:
        callbacks.append(keras.callbacks.TensorBoard(settings.tensorboard))
    return callbacks


if __name__ == "__main__":
    main(Path(sys.argv[1]))
