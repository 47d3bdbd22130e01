"""Networks that learn to be rounded: int8 comes nearer to float, and the verdict says how much."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from converter.attempt import Learned
from converter.build import Built, build
from converter.build_settings import BuildSettings, Roles, network
from converter.console import Silent
from converter.dataset import draft_manifest
from converter.default_bundle import simulated
from converter.errors import UsageError
from converter.fidelity import Limits
from converter.models import ModelSettings
from converter.models.rounding import learn_rounding, round_input, rounding_objection
from converter.models.training import Trained, TrainSettings, train
from converter.quantize import Converted, convert
from converter.verdict import verdict
from edge_agent.bundles.interpreter import Interpreter
from edge_agent.bundles.manifest import SmoothFrontEnd, WindowSpec
from tests.test_families import NETWORKS, made
from tests.test_models import waves

pytestmark = pytest.mark.usefixtures("warm")

DENSE = ModelSettings("dense", 12, 2, (32, 8, 32), "relu")
LSTM = ModelSettings("lstm", 12, 2, (16, 8), "tanh")
HEADROOM = 1.5


@cache
def dense() -> tuple[Trained, Converted]:
    """Trained and converted once."""
    fit = waves(600, 1)
    trained = train(DENSE, TrainSettings(epochs=6), fit, waves(100, 2), Silent())
    return trained, convert(DENSE, trained.weights, fit[:60], HEADROOM)


def rms(a: list[NDArray[np.float32]], b: list[NDArray[np.float32]]) -> float:
    return float(np.sqrt(np.mean(np.square(np.array(a) - np.array(b)))))


def learned_weights(model: ModelSettings, weights: list[NDArray[np.float32]]) -> list[np.ndarray]:
    fit = waves(600, 1)
    return learn_rounding(
        model, TrainSettings(), weights, fit, waves(100, 2), fit[:60], HEADROOM, Silent()
    )


def test_int8_comes_nearer_to_what_float_says() -> None:
    (trained, usual), unseen = dense(), waves(60, 7)
    weights = learned_weights(DENSE, trained.weights)
    learned = convert(DENSE, weights, waves(600, 1)[:60], HEADROOM)
    assert usual.int8 is not None
    assert learned.int8 is not None
    exact, before, after = (
        [model(w) for w in unseen]
        for model in map(Interpreter, (usual.float32, usual.int8, learned.int8))
    )
    assert rms(after, exact) < 0.9 * rms(before, exact)


def test_of_a_memory_only_the_encoder_learns() -> None:
    trained, _, _ = made("memory conv")
    weights = learned_weights(NETWORKS["memory conv"], trained.weights)
    assert [w.shape for w in weights] == [w.shape for w in trained.weights]
    assert not np.array_equal(weights[0], trained.weights[0])
    for a, b in zip(weights[-5:], trained.weights[-5:], strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_input_is_rounded_to_the_levels_of_the_int8_network() -> None:
    _, converted = dense()
    assert converted.int8 is not None
    tensor = Interpreter(converted.int8)._input
    windows = waves(20, 5) * np.float32(2.0)
    levels = np.clip(np.rint(windows / tensor.scale + tensor.zero_point), -128, 127)
    expected = (levels - tensor.zero_point) * tensor.scale
    found = round_input(windows, waves(600, 1)[:60] * np.float32(HEADROOM))
    np.testing.assert_allclose(found, expected, atol=1e-4)


MAST = BuildSettings(
    name="mast",
    family="conv",
    front_end=SmoothFrontEnd(decimate=10),
    window=WindowSpec(length=16, hop=5),
    train_hop=2,
    units=(16, 4),
    train=TrainSettings(epochs=6),
    limits=Limits(spearman=1.0, agreement=0.0, size_ratio=1.0),
)


def built(**changes: object) -> Built:
    roles = Roles([simulated("compass", 5, 180.0)], [], [])
    return build(replace(MAST, **changes), roles)  # type: ignore[arg-type]


def test_a_refused_network_learns_and_both_attempts_are_told() -> None:
    result = built()
    learned = result.learned
    assert learned.tried
    assert learned.spearman_before is not None
    assert learned.spearman_after is not None
    # The better one is kept, whichever that is.
    assert learned.used == (learned.spearman_after > learned.spearman_before)
    better = max(learned.spearman_before, learned.spearman_after)
    assert result.comparison.spearman == better
    assert result.learned._asdict() == verdict(result, Path("x.otolith"))["qat"]


def test_what_must_not_learn_does_not() -> None:
    never = built(qat="never", train=TrainSettings(epochs=1))
    assert never.learned == Learned(spearman_before=never.comparison.spearman)


def test_what_can_not_learn_says_why() -> None:
    assert "LSTM" in str(rounding_objection(LSTM))
    assert rounding_objection(DENSE) is None
    assert "int16" in str(rounding_objection(DENSE, "int16"))
    settings = replace(MAST, family="lstm", units=(8, 4), qat="always")
    sensor = simulated("compass", 5, 2.0).sensor
    draft = draft_manifest("x", sensor, MAST.front_end, MAST.window, "lstm")
    with pytest.raises(UsageError, match="--qat always: a network with an LSTM"):
        network(settings, draft)
