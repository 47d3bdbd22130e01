"""Each family and form from training to the gateway's model: what ships is what was trained."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from converter.build import build
from converter.build_settings import BuildSettings, Roles
from converter.bundle import write_bundle
from converter.console import Silent
from converter.default_bundle import simulated
from converter.errors import UsageError
from converter.evaluate import spearman
from converter.fidelity import Limits
from converter.filling import model_spec
from converter.layers import worst
from converter.models import ModelSettings
from converter.models.memory import MemorySettings
from converter.models.training import Trained, TrainSettings, train
from converter.quantize import Converted, convert, representative_rows
from converter.tflite_file import int8_objections, operations
from edge_agent.assets import build_pipeline
from edge_agent.bundles.bundle import read_bundle
from edge_agent.bundles.interpreter import Interpreter, ModelError
from edge_agent.bundles.manifest import (
    ModelSpec,
    RawFrontEnd,
    SmoothFrontEnd,
    SpectralFrontEnd,
    WindowSpec,
)
from edge_agent.bundles.model import model_of
from edge_agent.judging.pipeline import Judgement
from firmware_bridge.sampler import sampled
from firmware_bridge.simulator import machine_sources
from tests.programs import run
from tests.test_models import dense_by_hand, waves

pytestmark = pytest.mark.usefixtures("warm")

NETWORKS = {
    "memory": ModelSettings("memory", 12, 2, (16,), "tanh", MemorySettings(slots=20)),
    "memory conv": ModelSettings(
        "memory", 12, 2, (8, 12, 16), "relu",
        MemorySettings(encoder="conv", slots=20, temperature=0.2, shrinkage=0.02),
    ),
    "conv": ModelSettings("conv", 12, 2, (16, 8), "relu"),
    "lstm step": ModelSettings("lstm", 12, 2, (16, 8), "tanh"),
}  # fmt: skip
SETTINGS = TrainSettings(epochs=12, denoise=0.1)


@cache
def made(name: str) -> tuple[Trained, Converted, ModelSpec]:
    """Trained and converted once a session."""
    model, fit = NETWORKS[name], waves(400, 1)
    result = train(model, SETTINGS, fit, waves(100, 2), Silent())
    form = "step" if name == "lstm step" else "fused"
    converted = convert(model, result.weights, fit[representative_rows(fit, 60)], form=form)
    return result, converted, model_spec(model, result, converted.parts)


def scores(model: Interpreter, windows: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.array([np.mean(np.square(model(w) - w), dtype=float) for w in windows])


@pytest.mark.parametrize("name", NETWORKS)
def test_the_gateway_runs_what_was_trained(name: str) -> None:
    _, converted, spec = made(name)
    float32, shipped = Interpreter(converted.float32), model_of(spec, converted.files)
    windows = waves(80, 7)
    windows[40:] += np.random.default_rng(3).normal(0, 0.5, windows[40:].shape).astype("f4")
    before, after = (np.array([model(w) for w in windows[:40]]) for model in (float32, shipped))
    rms = np.sqrt(np.mean(np.square(before)))
    assert np.sqrt(np.mean(np.square(before - after))) < 0.05 * rms
    assert spearman(scores(float32, windows), scores(shipped, windows)) > 0.99
    # Nothing is carried from one window to the next.
    np.testing.assert_array_equal(shipped(windows[3]), after[3])


def test_no_concatenation_behind_an_int8_lstm() -> None:
    _, converted, _ = made("memory")
    assert converted.int8 is not None
    found = operations(converted.int8)
    assert found["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 2
    assert "CONCATENATION" not in found


def test_an_lstm_in_steps_has_no_state_and_int8_weights() -> None:
    _, converted, spec = made("lstm step")
    assert spec.stepping is not None
    assert spec.stepping.rows == 4
    for content in converted.files.values():
        found = operations(content)
        assert not {"UNIDIRECTIONAL_SEQUENCE_LSTM", "WHILE"} & set(found)
    ops = operations(converted.files["decoder.tflite"])
    assert ops["FULLY_CONNECTED"] >= 2 * 4


def test_every_layer_is_told_and_the_worst_is_named() -> None:
    _, converted, _ = made("memory conv")
    assert sum(layer.operation == "CONV_2D" for layer in converted.layers) == 3
    assert all(0.0 < layer.error < 0.2 for layer in converted.layers)
    blamed = worst(converted.layers)
    assert blamed is not None
    assert blamed.added == max(layer.added for layer in converted.layers)


@pytest.mark.parametrize("name", ["memory", "lstm step"])
def test_members_of_another_network_are_refused(name: str) -> None:
    _, converted, spec = made(name)
    with pytest.raises(ModelError, match="build the bundle anew"):
        model_of(spec.model_copy(update={"features": 3}), converted.files)
    for lost in converted.files:
        rest = {key: value for key, value in converted.files.items() if key != lost}
        with pytest.raises(ModelError, match=lost):
            model_of(spec, rest)


def test_slots_hold_what_is_normal_and_all_are_used() -> None:
    """Filled from codes, not from noise: each slot is near the code of some normal moment."""
    trained, _, _ = made("memory conv")
    memory = trained.weights[-5]
    assert memory.shape == (20, 16)
    lengths = np.linalg.norm(memory, axis=1)
    assert lengths.min() > 0.1 * np.median(lengths)


def by_hand(name: str, target: NDArray[np.float32], output: NDArray[np.float64]) -> float:
    """Each loss from its definition."""
    error = np.square(target - output)
    if name == "mse":
        return float(error.mean())
    if name == "recency":
        weights = np.linspace(1.0, 2.0, target.shape[1])
        return float((error.mean(axis=(0, 2)) * weights).sum() / weights.sum())
    magnitudes = [np.abs(np.fft.fft(part, axis=1)) for part in (target, output)]
    return float(np.square(magnitudes[0] - magnitudes[1]).mean() / target.shape[1])


@pytest.mark.parametrize(
    "losses",
    [(("mse", 1.0),), (("recency", 1.0),), (("mse", 0.5), ("spectral", 0.25))],
    ids=["mse", "recency", "mixed"],
)
def test_a_loss_is_what_it_says(losses: tuple[tuple[str, float], ...]) -> None:
    model, unseen = ModelSettings("dense", 12, 2, (8,), "relu"), waves(70, 2)
    settings = TrainSettings(epochs=3, losses=losses)
    result = train(model, settings, waves(200, 1), unseen, Silent())
    output = np.array([dense_by_hand(result.weights, w) for w in unseen])
    expected = sum(weight * by_hand(name, unseen, output) for name, weight in losses)
    assert result.validation_loss == pytest.approx(expected, rel=1e-4)


def test_int16_activations_where_they_can_be_had() -> None:
    model, fit = ModelSettings("dense", 12, 2, (32, 8, 32), "relu"), waves(300, 1)
    result = train(model, SETTINGS, fit, waves(60, 2), Silent())
    errors = {}
    for kind in ("int8", "int16"):
        converted = convert(model, result.weights, fit[:60], activations=kind)
        assert converted.int8 is not None
        narrow, exact = Interpreter(converted.int8), Interpreter(converted.float32)
        assert narrow.dtype == np.dtype(kind)
        errors[kind] = np.mean([np.square(narrow(w) - exact(w)).mean() for w in waves(60, 7)])
    assert errors["int16"] < errors["int8"]
    # An int16 file does not pass for int8.
    assert int8_objections(converted.int8) == ["its input or output is not int8"]


MEMORY = BuildSettings(
    name="mast",
    family="memory",
    front_end=SmoothFrontEnd(decimate=10),
    window=WindowSpec(length=20, hop=5),
    train_hop=2,
    units=(8, 16, 32),
    memory=MemorySettings(encoder="conv", slots=30),
    train=TrainSettings(epochs=8, denoise=0.3),
    threshold="pot",
    adaptive="spot",
    absolute=1e6,
    # A small network keeps its fixed size: that is not what this one is for.
    limits=Limits(size_ratio=1.0),
)


def test_a_memory_bundle_scores_on_the_gateway_as_in_the_converter(tmp_path: Path) -> None:
    faulty = simulated("compass", 5, 20.0)
    faulty = faulty._replace(anomalous=np.arange(faulty.rows) > faulty.rows // 2)
    faulty = faulty._replace(name="faulty", sha256="1" * 64)
    roles = Roles([simulated("compass", 5, 180.0)], [], [faulty])
    built = build(MEMORY, roles)
    assert built.comparison.accepted, built.comparison.reasons
    manifest = built.manifest
    assert manifest is not None
    path = tmp_path / "mast.otolith"
    write_bundle(path, manifest, built.files)
    assert read_bundle(path).files == built.files
    pipeline = build_pipeline("mast", read_bundle(path))
    facts = [fact for samples in faulty.batches for fact in pipeline.feed(samples)]
    found = [fact.score.value for fact in facts if isinstance(fact, Judgement)]
    assert built.comparison.int8 is not None
    np.testing.assert_array_equal(found, built.comparison.int8.evaluate)
    assert manifest.model.memory is not None
    assert manifest.model.memory.dim == 32
    settings = manifest.provenance.settings
    assert settings["train"]["losses"] == {"recency": 1.0}
    assert settings["memory"]["encoder"] == "conv"
    threshold = manifest.threshold
    assert (threshold.method, threshold.absolute) == ("pot", 1e6)
    assert threshold.adaptation is not None
    assert threshold.adaptation.method == "spot"


SPECTRAL = {"front_end": SpectralFrontEnd(), "window": WindowSpec(length=2304, hop=800)}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({**SPECTRAL}, "family memory has nothing to do on one spectrum"),
        ({**SPECTRAL, "family": "dense", "units": (), "train": TrainSettings(
            losses=(("spectral", 1.0),))}, "window of one step"),
        ({"units": (8, 16)}, "encoder has 3"),
        ({"memory": MemorySettings()}, "encoder has 1"),
        ({"family": "lstm", "units": (8, 4), "activations": "int16"}, "no LSTM with int16"),
        ({"form": "step"}, "--form step: is for --family lstm"),
        ({"window": WindowSpec(length=10**6, hop=5)}, "record longer"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_said_before_training(changes: dict, words: str) -> None:
    machine = "vibration" if "front_end" in changes else "compass"
    settings = replace(MEMORY, **changes)
    with pytest.raises(UsageError, match=words):
        build(settings, Roles([simulated(machine, 5, 10.0)], [], []))


def test_the_raw_front_end_feeds_a_convolution() -> None:
    settings = replace(
        MEMORY, family="conv", units=(16, 8), front_end=RawFrontEnd(), train_hop=10,
        window=WindowSpec(length=30, hop=30), train=TrainSettings(epochs=4),
    )  # fmt: skip
    built = build(settings, Roles([simulated("compass", 5, 60.0)], [], []))
    assert built.comparison.accepted, built.comparison.reasons
    assert built.manifest is not None
    assert (built.manifest.model.family, built.manifest.model.steps) == ("conv", 30)


def test_the_families_command_puts_them_side_by_side(tmp_path: Path) -> None:
    normal = tmp_path / "mast.rec"
    document, sources = machine_sources(["compass"], 5, faults=[])
    normal.write_bytes(b"".join(sampled(document, sources, 120.0)))
    found = run("converter", "families", "--normal", normal, "--only", "conv", "memory-conv",
                "--front-end", "smooth", "--decimate", 10, "--length", 20, "--hop", 5,
                "--train-hop", 5, "--epochs", 2, "--json")  # fmt: skip
    assert [line["network"] for line in found] == ["conv", "memory-conv"]
    for line in found:
        assert line["int8_bytes"] < line["float_bytes"]
        assert 0 < line["spearman_normal"] <= 1
        assert line["int8_us"] > 0
    # The mast turns once in 20 s: too long a window for so short a recording.
    assert run("converter", "families", "--normal", normal, "--only", "conv", "--front-end",
               "smooth", "--decimate", 10, "--length", "auto", "--json", code=1) == []  # fmt: skip
