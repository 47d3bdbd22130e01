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
from converter.models import MSE, ModelSettings, build_model
from converter.models.losses import make_loss
from converter.models.memory import MemorySettings
from converter.models.slots import slots_callback

Features = NDArray[np.float32]
Weights = list[NDArray[Any]]

PATIENCE_EPOCHS = 12
SLOWER_AFTER_EPOCHS = 5
SLOWER_FACTOR = 0.5
FREE_LAYERS = 2
MODULE = "converter.models.training"


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How to fit. `losses`: names and weights (`converter.models.losses`), none is `mse`.
    `denoise`: noise on the inputs, in standard deviations of a feature; the target stays clean.
    `freeze`: `all-but-last` leaves only the last layers to learn."""

    epochs: int = 60
    batch_size: int = 32
    learning_rate: float = 0.001
    seed: int = 1
    denoise: float = 0.0
    losses: tuple[tuple[str, float], ...] = ()
    freeze: str = "none"
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
    model: ModelSettings,
    settings: TrainSettings,
    fit: Features,
    validation: Features,
    steps: Steps,
    start: Weights | None = None,
) -> Trained:
    """Trains in a child process, from the weights `start` if there are some. Raises
    `ConverterError` if it fails."""
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
        if start is not None:
            np.savez(folder / "start.npz", *start)
        run_child(MODULE, folder, "the training", settings.timeout_seconds, on_line)
        with np.load(folder / "weights.npz") as stored:
            weights = [stored[key] for key in stored.files]
    best = min(history, key=lambda line: float(line["val_loss"]))
    return Trained(weights, len(history), best["loss"], best["val_loss"])


def read_model_settings(fields: dict[str, Any]) -> ModelSettings:
    """What `asdict` made of it, back from JSON."""
    memory = fields.get("memory")
    return ModelSettings(
        **{
            **fields,
            "units": tuple(fields["units"]),
            "memory": MemorySettings(**memory) if memory else None,
        }
    )


def main(folder: Path) -> None:
    """The child's side."""
    import keras
    import tensorflow

    job = json.loads((folder / "job.json").read_text())
    settings = TrainSettings(**job["settings"])
    keras.utils.set_random_seed(settings.seed)
    tensorflow.config.experimental.enable_op_determinism()
    network = read_model_settings(job["model"])
    model = build_model(keras, network, settings.denoise)
    fit, validation = np.load(folder / "fit.npy"), np.load(folder / "validation.npy")
    callbacks = _callbacks(keras, settings)
    if (folder / "start.npz").exists():
        with np.load(folder / "start.npz") as stored:
            model.set_weights([stored[key] for key in stored.files])
        _freeze(model, settings.freeze)
    elif network.memory:
        callbacks.append(slots_callback(keras, model, fit, settings.seed))
    learner = learner_of(keras, tensorflow, model, settings)
    learner.fit(
        fit, fit,
        validation_data=(validation, validation),
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        callbacks=callbacks,
        verbose=0,
    )  # fmt: skip
    np.savez(folder / "weights.npz", *model.get_weights())


def _freeze(model: Any, what: str) -> None:
    """`all-but-last`: only the last `FREE_LAYERS` layers that have weights go on learning."""
    weighted = [layer for layer in model.layers if layer.weights]
    for layer in weighted[:-FREE_LAYERS] if what == "all-but-last" else ():
        layer.trainable = False


def learner_of(keras: Any, tensorflow: Any, model: Any, settings: TrainSettings) -> Any:
    """The same layers with a training step of our own."""
    loss_of = make_loss(tensorflow, settings.losses or MSE)

    class Learner(keras.Model):  # type: ignore[misc]  # Keras has no types
        def __init__(self, inputs: Any, outputs: Any) -> None:
            super().__init__(inputs, outputs)
            self._mean = keras.metrics.Mean(name="loss")

        @property
        def metrics(self) -> list[Any]:
            return [self._mean]

        def train_step(self, data: Any) -> dict[str, Any]:
            windows, target = data
            with tensorflow.GradientTape() as tape:
                loss = loss_of(target, self(windows, training=True))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
            return self._told(loss, windows)

        def test_step(self, data: Any) -> dict[str, Any]:
            windows, target = data
            return self._told(loss_of(target, self(windows, training=False)), windows)

        def _told(self, loss: Any, windows: Any) -> dict[str, Any]:
            self._mean.update_state(loss, sample_weight=tensorflow.shape(windows)[0])
            return {"loss": self._mean.result()}

    learner = Learner(model.inputs, model.outputs)
    learner.compile(optimizer=keras.optimizers.Adam(settings.learning_rate))
    return learner


def tell_callback(keras: Any) -> Any:
    """A JSON line an epoch on standard output."""

    class Tell(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
            line = {"epoch": epoch + 1, "loss": logs["loss"], "val_loss": logs["val_loss"]}
            sys.stdout.write(json.dumps({key: float(value) for key, value in line.items()}) + "\n")
            sys.stdout.flush()

    return Tell()


def _callbacks(keras: Any, settings: TrainSettings) -> list[Any]:
    callbacks = [
        keras.callbacks.EarlyStopping(patience=PATIENCE_EPOCHS, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau(factor=SLOWER_FACTOR, patience=SLOWER_AFTER_EPOCHS),
        tell_callback(keras),
    ]
    if settings.tensorboard:
        callbacks.append(keras.callbacks.TensorBoard(settings.tensorboard))
    return callbacks


if __name__ == "__main__":
    main(Path(sys.argv[1]))
