"""What one machine has taught: as a start for the next one, and as a SavedModel for a server."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from converter.build import Built, build
from converter.build_settings import BuildSettings, Roles
from converter.default_bundle import simulated
from converter.errors import ConverterError, UsageError
from converter.fidelity import Limits
from converter.models.training import TrainSettings
from converter.transfer import FloatModel, read_weights, weights_path, write_weights
from edge_agent.bundles.manifest import SpectralFrontEnd, WindowSpec
from tests.conftest import ROOT
from tests.programs import run
from tests.test_models import dense_by_hand

pytestmark = pytest.mark.usefixtures("warm")

FIRST, SECOND = 41, 42
SETTINGS = BuildSettings(
    name="motor",
    family="dense",
    front_end=SpectralFrontEnd(),
    window=WindowSpec(length=2304, hop=800),
    train_hop=400,
    units=(64, 16, 64),
    train=TrainSettings(epochs=40, batch_size=32),
    limits=Limits(1.0, -1.0, 0.0, 1.0),
)


@pytest.fixture(scope="module")
def first() -> Built:
    """Ten minutes' worth of one machine, by the standards of a test: 80 s."""
    return build(SETTINGS, Roles([simulated("vibration", FIRST, 80.0)], [], []))


@pytest.fixture
def weights(first: Built, tmp_path: Path) -> Path:
    path = weights_path(tmp_path / "motor.otolith")
    write_weights(path, first.float_model)
    return path


def test_seconds_of_a_second_machine_are_enough_with_the_first_ones_weights(
    first: Built, capsys: pytest.CaptureFixture[str]
) -> None:
    normal = [simulated("vibration", SECOND, 12.0)]
    held_out = [simulated("vibration", SECOND, 40.0)._replace(name="later", sha256="2" * 64)]
    roles = Roles(normal, held_out, [])
    scratch = build(SETTINGS, roles)
    start = replace(SETTINGS, start=first.float_model)
    frozen = replace(start, train=replace(SETTINGS.train, freeze="all-but-last"))
    builds = {"from scratch": scratch, "fine-tuned": build(start, roles),
              "all but the last frozen": build(frozen, roles)}  # fmt: skip
    # Same scaler, same windows: the errors compare.
    errors = {name: float(built.comparison.float32.held_out.mean()) for name, built in
              builds.items()}  # fmt: skip
    with capsys.disabled():
        told = ", ".join(f"{name} {error:.4f}" for name, error in errors.items())
        sys.stdout.write(f"\nerror on {builds['fine-tuned'].windows['held_out']} windows of a "
                         f"second machine: {told}\n")  # fmt: skip
    assert errors["all but the last frozen"] < 0.9 * errors["from scratch"]
    before, after = first.float_model.weights, builds["all but the last frozen"].float_model.weights
    for a, b in zip(before[:-4], after[:-4], strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(before[-2], after[-2])


def test_weights_come_back_as_they_were(first: Built, weights: Path) -> None:
    read = read_weights(weights)
    assert read.model == first.float_model.model
    assert read.scaler == first.float_model.scaler
    for a, b in zip(read.weights, first.float_model.weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"junk" * 99])
def test_junk_is_no_weights(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.weights.npz"
    path.write_bytes(content)
    with pytest.raises(ConverterError, match="no float weights of ours"):
        read_weights(path)


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "x.weights.npz"
    np.savez(path, about=np.array([{"a": 1}], object))
    with pytest.raises(ConverterError, match="no float weights of ours"):
        read_weights(path)


def test_another_network_is_not_started_from_it(first: Built) -> None:
    settings = replace(SETTINGS, units=(64, 8, 64), start=first.float_model)
    with pytest.raises(UsageError, match=r"units \(64, 16, 64\), not \(64, 8, 64\)"):
        build(settings, Roles([simulated("vibration", SECOND, 12.0)], [], []))


# What a server does: loads a folder, asks for a signature by name, calls it by its names.
SERVER = """
import json, sys, numpy, tensorflow
loaded = tensorflow.saved_model.load(sys.argv[1])
serve = loaded.signatures["serving_default"]
answer = serve(features=tensorflow.constant(numpy.load(sys.argv[2])))
print(json.dumps({
    "inputs": {k: v.shape.as_list() for k, v in serve.structured_input_signature[1].items()},
    "score": answer["score"].numpy().tolist(),
    "shape": answer["reconstruction"].shape.as_list(),
}))
"""


def test_the_export_answers_under_its_names(first: Built, weights: Path, tmp_path: Path) -> None:
    (said,) = run("converter", "export", tmp_path / "motor.otolith", "--out", tmp_path / "served",
                  "--json")  # fmt: skip
    assert said["saved_model"] == str(tmp_path / "served" / "1")
    trained = read_weights(weights)
    features = windows_of(trained)
    np.save(tmp_path / "features.npy", features)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SERVER, said["saved_model"],
         str(tmp_path / "features.npy")],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["inputs"] == {"features": [None, 1, trained.model.features]}
    assert answer["shape"] == [5, 1, trained.model.features]
    centre, scale = np.array(trained.scaler.centre), np.array(trained.scaler.scale)
    scaled = (features - centre) / scale
    expected = [np.mean((w - dense_by_hand(trained.weights, w)) ** 2) for w in scaled]
    np.testing.assert_allclose(answer["score"], expected, rtol=1e-3)
    again = run("converter", "export", weights, "--out", tmp_path / "served", code=2)
    assert again == []


def windows_of(trained: FloatModel) -> np.ndarray:
    """Five windows around the scaler's centre, in feature units."""
    size = trained.model.features
    noise = np.random.default_rng(8).normal(size=(5, 1, size))
    return (np.array(trained.scaler.centre) + noise * np.array(trained.scaler.scale)).astype("f4")
