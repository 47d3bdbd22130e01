"""int8: what the converter leaves in the file, how far it is from float, and how it may die."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import interpreter as litert
from numpy.typing import NDArray

from converter.child import run_child
from converter.console import Silent
from converter.errors import ConverterError
from converter.models import ModelSettings
from converter.models.training import Trained, TrainSettings, train
from converter.quantize import Converted, convert, representative_rows
from converter.tflite_file import int8_objections, operations
from edge_agent.bundles.interpreter import Interpreter
from tests.test_models import dense_by_hand, plane, waves

DENSE = ModelSettings("dense", 1, 6, (64, 32, 64), "relu")
LSTM = ModelSettings("lstm", 12, 2, (16, 8), "tanh")


def made(model: ModelSettings) -> tuple[Trained, Converted]:
    make = plane if model.family == "dense" else waves
    fit = make(400, 1)
    result = train(model, TrainSettings(epochs=10), fit, make(100, 2), Silent())
    return result, convert(model, result.weights, fit[representative_rows(fit, 60)])


@pytest.fixture(scope="module")
def dense() -> tuple[Trained, Converted]:
    return made(DENSE)


@pytest.fixture(scope="module")
def lstm() -> tuple[Trained, Converted]:
    return made(LSTM)


def both(converted: Converted) -> tuple[Interpreter, Interpreter]:
    assert converted.int8 is not None
    return Interpreter(converted.float32), Interpreter(converted.int8)


def rms(values: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def test_float_is_the_trained_network_and_int8_close_to_it(
    dense: tuple[Trained, Converted],
) -> None:
    trained, converted = dense
    float32, int8 = both(converted)
    windows = plane(100, 7)
    by_hand = [dense_by_hand(trained.weights, w) for w in windows]
    np.testing.assert_allclose([float32(w) for w in windows], by_hand, atol=1e-5)
    # Tolerance: 5 % of the data's own rms; a scale that is off by one bit costs far more.
    assert rms(np.array([int8(w) for w in windows]) - by_hand) < 0.05 * rms(windows)


def test_lstm_int8_is_close_to_float(lstm: tuple[Trained, Converted]) -> None:
    float32, int8 = both(lstm[1])
    windows = waves(60, 7)
    before, after = (np.array([model(w) for w in windows]) for model in (float32, int8))
    assert rms(after - before) < 0.05 * rms(windows)


def test_every_operation_is_int8_and_the_lstm_is_one_operation(
    dense: tuple[Trained, Converted], lstm: tuple[Trained, Converted]
) -> None:
    for _, converted in (dense, lstm):
        assert converted.int8 is not None
        assert int8_objections(converted.int8) == []
        assert len(converted.int8) < len(converted.float32)
    assert lstm[1].int8 is not None
    assert operations(lstm[1].int8)["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 4
    assert "WHILE" not in operations(lstm[1].int8)
    assert dense[1].int8 is not None
    assert operations(dense[1].int8)["FULLY_CONNECTED"] == 4


def test_a_float_file_is_not_taken_for_int8(dense: tuple[Trained, Converted]) -> None:
    objections = int8_objections(dense[1].float32)
    assert any("not int8" in text for text in objections)
    assert any("FULLY_CONNECTED" in text for text in objections)


def test_the_file_carries_no_names(dense: tuple[Trained, Converted]) -> None:
    assert dense[1].int8 is not None
    for word in (b"dense", b"serving", b"CONVERSION_METADATA", b"min_runtime_version"):
        assert word not in dense[1].int8


def test_the_state_trap(lstm: tuple[Trained, Converted]) -> None:
    """Without a reset the same window gives another answer; our interpreter resets."""
    assert lstm[1].int8 is not None
    window = waves(1, 8)[0]
    _, ours = both(lstm[1])
    np.testing.assert_array_equal(ours(window), ours(window))
    bare = litert.Interpreter(model_content=lstm[1].int8, num_threads=1)
    bare.allocate_tensors()
    source, sink = bare.get_input_details()[0], bare.get_output_details()[0]
    scale, zero = source["quantization"]
    answers = []
    for _ in range(2):
        levels = np.clip(np.rint(window / scale + zero), -128, 127)
        bare.set_tensor(source["index"], levels.astype(np.int8)[None])
        bare.invoke()
        answers.append(bare.get_tensor(sink["index"]).copy())
    assert not np.array_equal(*answers)


def test_conversion_gives_the_same_bytes_twice(dense: tuple[Trained, Converted]) -> None:
    trained, converted = dense
    fit = plane(400, 1)
    again = convert(DENSE, trained.weights, fit[representative_rows(fit, 60)])
    assert again == converted


def test_a_relu_lstm_kills_the_converter_and_only_its_child() -> None:
    relu = ModelSettings("lstm", 12, 2, (16, 8), "relu")
    fit = waves(100, 1)
    trained = train(relu, TrainSettings(epochs=1), fit, fit, Silent())
    assert relu.int8_refusal is not None
    assert convert(relu, trained.weights, fit, int8=False).int8 is None
    with pytest.raises(ConverterError, match=r"conversion to TFLite (died by signal SIG|failed)"):
        convert(relu, trained.weights, fit[:20])


def test_a_child_that_takes_too_long_is_stopped(dense: tuple[Trained, Converted]) -> None:
    with pytest.raises(ConverterError, match=r"took more than 0\.05 s and was stopped"):
        convert(DENSE, dense[0].weights, plane(20, 1), timeout_seconds=0.05)


def test_a_child_that_fails_says_why_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConverterError, match="the job failed with exit code 1: .*no.such.module"):
        run_child("no.such.module", tmp_path, "the job", 60.0)


def test_representative_windows_cover_the_operating_points() -> None:
    random = np.random.default_rng(4)
    usual = random.normal(0, 1, (500, 3, 2))
    rare = random.normal(40, 1, (2, 3, 2))
    windows = np.concatenate([usual, rare]).astype(np.float32)
    chosen = representative_rows(windows, 20)
    assert len(set(chosen.tolist())) == 20
    assert chosen.tolist() == sorted(chosen.tolist())
    assert {500, 501} & set(chosen.tolist())
    assert representative_rows(windows[:7], 20).tolist() == list(range(7))
