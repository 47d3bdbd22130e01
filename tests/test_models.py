"""The networks and their training: what comes out learns, is the same every time, and says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from converter.baseline import LinearRival
from converter.console import Silent
from converter.errors import ConverterError
from converter.models import ModelSettings
from converter.models.training import Trained, TrainSettings, train

DENSE = ModelSettings("dense", 1, 6, (24, 3, 24), "relu")


class Watched(Silent):
    """Steps that remember what they were told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, str]] = []

    def advance(self, done: int, note: str = "") -> None:
        self.told.append((done, note))


def plane(count: int, seed: int) -> NDArray[np.float32]:
    """Windows [count, 1, 6] that lie on a curved surface of two dimensions."""
    place = np.random.default_rng(seed).uniform(-1, 1, (count, 2))
    x, y = place.T
    return np.stack([x, y, x * y, x - y, x**2 - 0.3, y**2 - 0.3], axis=1)[:, None].astype("f4")


def waves(count: int, seed: int) -> NDArray[np.float32]:
    """Windows [count, 12, 2] of two waves."""
    phase = np.random.default_rng(seed).uniform(0, 6.28, (count, 1))
    angle = phase + 0.5 * np.arange(12)
    return np.stack([np.sin(angle), np.cos(angle)], axis=2).astype("f4")


def trained(epochs: int, seed: int = 3) -> Trained:
    settings = TrainSettings(epochs=epochs, seed=seed, denoise=0.05)
    return train(DENSE, settings, plane(400, 1), plane(100, 2), Silent())


def dense_by_hand(weights: list[NDArray[np.float32]], window: NDArray[np.float32]) -> np.ndarray:
    """The dense network as matrix products."""
    flow = window.reshape(-1).astype(float)
    for kernel, bias in zip(weights[0:-2:2], weights[1:-2:2], strict=True):
        flow = np.maximum(flow @ kernel + bias, 0.0)
    return (flow @ weights[-2] + weights[-1]).reshape(window.shape)


def test_the_dense_network_beats_the_straight_line_on_a_curved_surface() -> None:
    result = trained(epochs=60)
    assert [w.shape for w in result.weights[::2]] == [(6, 24), (24, 3), (3, 24), (24, 6)]
    assert result.parameters == sum(w.size for w in result.weights)
    unseen, rival = plane(200, 9), LinearRival(plane(400, 1))
    network_error = np.mean([(dense_by_hand(result.weights, w) - w) ** 2 for w in unseen])
    assert network_error < 0.5 * np.mean(unseen**2)
    # The rival keeps 95 % of the variance of the windows that it was fitted on.
    assert 0.0 < np.mean([(rival(w) - w) ** 2 for w in unseen]) < 0.08 * np.mean(unseen**2)


def test_training_twice_gives_the_same_weights_and_another_seed_others() -> None:
    first, again, other = (trained(epochs=2, seed=seed) for seed in (3, 3, 4))
    for a, b in zip(first.weights, again.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first.weights[0], other.weights[0])
    assert first.epochs == 2


def test_progress_stops_early_and_the_best_weights_stay(tmp_path: Path) -> None:
    watched = Watched()
    settings = TrainSettings(epochs=200, learning_rate=0.2, tensorboard=str(tmp_path / "logs"))
    small = ModelSettings("dense", 1, 6, (4,), "relu")
    result = train(small, settings, plane(100, 1), plane(50, 2), watched)
    assert [done for done, _ in watched.told] == list(range(1, result.epochs + 1))
    assert result.epochs < 200
    losses = [float(note.split()[-1]) for _, note in watched.told]
    assert round(result.validation_loss, 4) == min(losses)
    errors = [np.mean((dense_by_hand(result.weights, w) - w) ** 2) for w in plane(50, 2)]
    assert np.mean(errors) == pytest.approx(result.validation_loss, rel=1e-3)
    assert list((tmp_path / "logs").rglob("events.out.*"))


def test_a_network_that_can_not_be_built_is_one_line() -> None:
    settings = ModelSettings("dense", 1, 6, (4,), "no such activation")
    with pytest.raises(ConverterError, match="the training failed with exit code 1: .*activation"):
        train(settings, TrainSettings(epochs=1), plane(40, 1), plane(20, 2), Silent())
