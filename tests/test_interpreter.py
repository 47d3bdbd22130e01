"""int8 inference: no state from window to window, the right levels, one copy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_agent.bundles.bundle import read_bundle
from edge_agent.bundles.interpreter import Interpreter, ModelError
from tests.programs import COMPASS, VIBRATION


def windows(interpreter: Interpreter, count: int, seed: int = 1) -> list[np.ndarray]:
    """Scaled windows of noise."""
    rng = np.random.default_rng(seed)
    shape = interpreter.shape[1:]
    return [rng.normal(size=shape).astype(np.float32) for _ in range(count)]


@pytest.mark.parametrize("path", [VIBRATION, COMPASS])
def test_the_model_is_int8_and_remembers_nothing(path: Path) -> None:
    model = read_bundle(path).model
    interpreter = Interpreter(model)
    assert interpreter.dtype == np.int8
    first, second, third = windows(interpreter, 3)
    alone = Interpreter(model)(second)
    interpreter(first)
    interpreter(third)
    # A fused LSTM that is not reset gives another answer here.
    np.testing.assert_array_equal(interpreter(second), alone)
    assert alone.dtype == np.float32
    assert alone.shape == second.shape


def test_the_lstm_trap_is_real_in_this_runtime() -> None:
    """Without the reset the same window has two answers: the test above can fail."""
    interpreter = Interpreter(read_bundle(COMPASS).model)
    window = windows(interpreter, 1)[0]
    first = interpreter(window)
    assert not np.array_equal(interpreter._run(window), first)


def test_output_does_not_change_under_the_callers_feet() -> None:
    interpreter = Interpreter(read_bundle(VIBRATION).model)
    first, second = windows(interpreter, 2)
    kept = interpreter(first)
    copy = kept.copy()
    interpreter(second)
    np.testing.assert_array_equal(kept, copy)


def test_what_is_out_of_range_saturates_and_infinity_is_no_crash() -> None:
    interpreter = Interpreter(read_bundle(VIBRATION).model)
    window = windows(interpreter, 1)[0]
    high = interpreter(np.full_like(window, 1e9))
    np.testing.assert_array_equal(high, interpreter(np.full_like(window, np.inf)))
    assert np.isfinite(high).all()


@pytest.mark.parametrize("junk", [b"", b"TFL3", bytes(1000), b"\xff" * 4096])
def test_junk_is_no_model(junk: bytes) -> None:
    with pytest.raises(ModelError):
        Interpreter(junk)
