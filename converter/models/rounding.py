"""Rounding: a trained network learns to say the same when int8 rounds it. Runs as a process of its
own.

In: a folder with `job.json`, `start.npz`, `fit.npy`, `validation.npy`, `representative.npy`
(scaled). Out: `weights.npz` there, and a JSON line an epoch on standard output.
Never: another network, another target than what the float network says.

It is built by the same builders, from a Keras whose Dense and Conv1D round their weights and their
outputs to the 256 levels that the TFLite converter will choose: symmetric for weights (one scale a
filter of a convolution, one a dense layer), between the smallest and the largest value that the
representative windows bring about for outputs. Gradients pass through the rounding. The target is
the float network's own output: what is asked for is int8 that agrees with float, not one that is
easier to round because it rebuilds worse.

The code is ours because `tensorflow_model_optimization` knows only Keras 2. An LSTM is not offered:
its fused int8 operation rounds states and gates inside, and no Keras layer has these places.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from converter.child import run_child
from converter.console import Steps
from converter.models import ModelSettings, build_model
from converter.models.memory import build_encoder, split_weights
from converter.models.training import (
    Features,
    TrainSettings,
    Weights,
    learner_of,
    read_model_settings,
    tell_callback,
)

MODULE = "converter.models.rounding"
EPOCHS = 15
# Few windows give few batches, and rounding is learned in small steps: then there are more epochs.
LEAST_STEPS = 1200
MOST_EPOCHS = 100
LEARNING_RATE = 0.00005
LEVELS_BITS = 8
# Of a kernel of zeros; a scale must not be zero.
LEAST_RANGE = 1e-9
BATCH = 256
BLOCKS = ("fit", "validation", "representative")


def rounding_objection(model: ModelSettings, activations: str = "int8") -> str | None:
    """Why a network can't learn to be rounded, or None."""
    if model.recurrent:
        return (
            "a network with an LSTM can't learn to be rounded: its int8 operation rounds inside, "
            "where training has no hand; use --family conv, or --family memory --encoder conv"
        )
    if activations != "int8":
        return f"{activations} activations round so little that there is nothing to learn"
    return None


def learn_rounding(
    model: ModelSettings,
    settings: TrainSettings,
    weights: Weights,
    fit: Features,
    validation: Features,
    representative: Features,
    headroom: float,
    steps: Steps,
) -> Weights:
    """Other weights of the same network, closer to its float output once they are int8. `settings`
    give seed, batch size and timeout. Of a memory only the encoder learns. Raises `ConverterError`.
    """

    def on_line(line: dict[str, Any]) -> None:
        steps.advance(line["epoch"], f"loss {line['loss']:.6f}  validation {line['val_loss']:.6f}")

    batches = -(-len(fit) // settings.batch_size)
    epochs = min(MOST_EPOCHS, max(EPOCHS, LEAST_STEPS // batches))
    brief = replace(settings, epochs=epochs, learning_rate=LEARNING_RATE, losses=(), denoise=0.0)
    steps.begin("learning to be rounded", epochs)
    with tempfile.TemporaryDirectory(prefix="otolith-") as name:
        folder = Path(name)
        job = {"model": asdict(model), "settings": asdict(brief), "headroom": headroom}
        (folder / "job.json").write_text(json.dumps(job))
        np.savez(folder / "start.npz", *weights)
        for key, windows in zip(BLOCKS, (fit, validation, representative), strict=True):
            np.save(folder / f"{key}.npy", windows)
        run_child(MODULE, folder, "the learning to be rounded", settings.timeout_seconds, on_line)
        with np.load(folder / "weights.npz") as stored:
            return [stored[key] for key in stored.files]


class Grid:
    """The 256 levels of one layer's output."""

    def __init__(self, tensorflow: Any) -> None:
        self._tf = tensorflow
        self.low, self.high = tensorflow.Variable(0.0), tensorflow.Variable(LEAST_RANGE)

    def clear(self) -> None:
        """Zero must be a level whatever is seen."""
        self.low.assign(0.0)
        self.high.assign(LEAST_RANGE)

    def see(self, values: Any) -> None:
        """Values that must have a level."""
        self.low.assign(self._tf.minimum(self.low, self._tf.reduce_min(values)))
        self.high.assign(self._tf.maximum(self.high, self._tf.reduce_max(values)))

    def round(self, values: Any) -> Any:
        """Each value as the nearest level."""
        return self._tf.quantization.fake_quant_with_min_max_vars(
            values, self.low, self.high, num_bits=LEVELS_BITS
        )


class RoundingLayers:
    """`keras.layers` whose Dense and Conv1D round; while `watching` they do not, and their grids
    grow with what they see."""

    def __init__(self, keras: Any, tensorflow: Any) -> None:
        self._keras, self._tf = keras, tensorflow
        self.watching = False
        self.grids: list[Grid] = []
        self.Dense = self._rounded(keras.layers.Dense, by_filter=False)
        self.Conv1D = self._rounded(keras.layers.Conv1D, by_filter=True)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._keras.layers, name)

    def _rounded(self, plain: Any, by_filter: bool) -> Any:
        outer, tensorflow = self, self._tf

        class Rounded(plain):  # type: ignore[misc]  # Keras has no types
            def __init__(self, *arguments: Any, **settings: Any) -> None:
                super().__init__(*arguments, **settings)
                self.grid = Grid(tensorflow)
                outer.grids.append(self.grid)

            @property
            def kernel(self) -> Any:
                exact = super().kernel
                return exact if outer.watching else round_kernel(tensorflow, exact, by_filter)

            def call(self, inputs: Any) -> Any:
                output = super().call(inputs)
                if not outer.watching:
                    return self.grid.round(output)
                self.grid.see(output)
                return output

        return Rounded


class RoundingKeras:
    """What the builders see of Keras."""

    def __init__(self, keras: Any, tensorflow: Any) -> None:
        self.layers = RoundingLayers(keras, tensorflow)
        self.Input, self.Model = keras.Input, keras.Model

    def watch(self, model: Any, windows: Features) -> None:
        """Chooses the levels as the converter will: by what the float network makes of them."""
        for grid in self.layers.grids:
            grid.clear()
        self.layers.watching = True
        model(windows, training=False)
        self.layers.watching = False


def round_kernel(tensorflow: Any, kernel: Any, by_filter: bool) -> Any:
    """-127 to 127 steps of one scale, or of one each along the last axis."""
    axes = tuple(range(len(kernel.shape) - 1)) if by_filter else None
    kernel = tensorflow.convert_to_tensor(kernel)
    largest = tensorflow.stop_gradient(tensorflow.reduce_max(tensorflow.abs(kernel), axis=axes))
    largest = tensorflow.maximum(largest, LEAST_RANGE)
    quantization = tensorflow.quantization
    rounded = (
        quantization.fake_quant_with_min_max_vars_per_channel
        if by_filter
        else quantization.fake_quant_with_min_max_vars
    )
    return rounded(kernel, -largest, largest, num_bits=LEVELS_BITS, narrow_range=True)


def round_input(windows: Features, representative: Features) -> Features:
    """What the int8 network is fed: the levels of its input."""
    low, high = min(float(representative.min()), 0.0), max(float(representative.max()), LEAST_RANGE)
    scale = (high - low) / 255.0
    zero = np.rint(-low / scale)
    levels = np.clip(np.rint(windows / scale) + zero, 0.0, 255.0)
    rounded: Features = ((levels - zero) * scale).astype(np.float32)
    return rounded


def slowing(settings: TrainSettings, epoch: int) -> float:
    """The learning rate of an epoch: half a cosine, down to nearly nothing."""
    return settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * epoch / settings.epochs))


def main(folder: Path) -> None:
    """The child's side."""
    import keras
    import tensorflow

    job = json.loads((folder / "job.json").read_text())
    settings, network = TrainSettings(**job["settings"]), read_model_settings(job["model"])
    keras.utils.set_random_seed(settings.seed)
    tensorflow.config.experimental.enable_op_determinism()
    with np.load(folder / "start.npz") as stored:
        weights = [stored[key] for key in stored.files]
    large = np.load(folder / "representative.npy") * np.float32(job["headroom"])
    rounding = RoundingKeras(keras, tensorflow)
    build = build_encoder if network.memory else build_model
    learning = split_weights(weights).encoder if network.memory else weights
    exact, rounded = build(keras, network), build(rounding, network)
    for model in (exact, rounded):
        model.set_weights(learning)
    pairs = [_pairs(exact, np.load(folder / f"{name}.npy"), large) for name in BLOCKS[:2]]
    learner_of(keras, tensorflow, rounded, settings).fit(
        *pairs[0],
        validation_data=pairs[1],
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        callbacks=_callbacks(keras, settings, lambda: rounding.watch(rounded, large)),
        verbose=0,
    )
    np.savez(folder / "weights.npz", *rounded.get_weights(), *weights[len(learning) :])


def _pairs(exact: Any, windows: Features, representative: Features) -> tuple[Features, Features]:
    """What the int8 network is fed, and what the float network says to the same windows."""
    batches = (windows[i : i + BATCH] for i in range(0, len(windows), BATCH))
    said = np.concatenate([exact(batch, training=False).numpy() for batch in batches])
    return round_input(windows, representative), said


def _callbacks(keras: Any, settings: TrainSettings, watch: Callable[[], None]) -> list[Any]:
    class Watch(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            # The levels follow the weights.
            watch()

    return [
        Watch(),
        keras.callbacks.LearningRateScheduler(lambda epoch: slowing(settings, epoch)),
        keras.callbacks.EarlyStopping(patience=settings.epochs, restore_best_weights=True),
        tell_callback(keras),
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
