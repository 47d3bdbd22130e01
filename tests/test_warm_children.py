"""Jobs that are forked from a process with TensorFlow in it: the same weights, the same endings."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from converter.child import run_child, warm_children
from converter.console import Silent
from converter.errors import ConverterError
from converter.models import ModelSettings
from converter.models.training import TrainSettings, train

MODEL = ModelSettings(family="dense", steps=4, features=2, units=(8, 2, 8), activation="tanh")
SETTINGS = TrainSettings(epochs=3, seed=7)


def test_a_warm_child_trains_the_same_weights_as_a_cold_one() -> None:
    windows = np.random.default_rng(1).normal(size=(64, 4, 2)).astype(np.float32)
    cold = train(MODEL, SETTINGS, windows, windows, Silent())
    with warm_children():
        warm = [train(MODEL, SETTINGS, windows, windows, Silent()) for _ in range(2)]
    for one in warm:
        assert one.epochs == cold.epochs == 3
        for ours, theirs in zip(one.weights, cold.weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def job(tmp_path: Path, name: str, what: str) -> Path:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "job.json").write_text(json.dumps(what))
    return folder


@pytest.mark.parametrize(
    ("what", "told"), [("raise", "failed with exit code 1"), ("die", "SIGSEGV"), ("hang", "took")]
)
def test_how_a_job_has_ended_is_told_and_the_next_one_runs(
    tmp_path: Path, what: str, told: str
) -> None:
    lines: list[dict[str, str]] = []
    with warm_children():
        with pytest.raises(ConverterError, match=told):
            run_child("tests.test_warm_children", job(tmp_path, what, what), "the job", 5.0)
        run_child(
            "tests.test_warm_children", job(tmp_path, "good", "say"), "it", 60.0, lines.append
        )
    assert lines == [{"said": "well"}]


def main(folder: Path) -> None:
    """The child's side."""
    what = json.loads((folder / "job.json").read_text())
    if what == "raise":
        raise ValueError("on purpose")
    if what == "die":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "hang":
        time.sleep(600)
    os.write(1, b'{"said": "well"}\n')
