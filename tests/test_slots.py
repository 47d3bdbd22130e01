"""Slots filled and refreshed on site, without TensorFlow: the machine at hand becomes normal."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from converter.evaluate import auc
from edge_agent.bundles.manifest import MemorySpec
from edge_agent.bundles.memory import Decoder, MemoryModel, shares_of, unit
from edge_agent.bundles.model import model_of
from edge_agent.bundles.slot_tuning import Reading, gradient_of, tuned
from edge_agent.bundles.slots import chosen, fill, least_used, members_of, refresh
from tests.test_families import made
from tests.test_models import waves

pytestmark = pytest.mark.usefixtures("warm")

RNG = np.random.default_rng(3)


def shifted(count: int, seed: int) -> NDArray[np.float32]:
    """Another machine of the kind: weaker, with an offset."""
    return waves(count, seed) * np.float32(0.8) + np.float32(0.3)


def scores(model: MemoryModel, windows: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.array([np.mean(np.square(model(w) - w), dtype=float) for w in windows])


def memory_model(files: dict[str, bytes]) -> MemoryModel:
    model = model_of(made("memory conv")[2], files)
    assert isinstance(model, MemoryModel)
    return model


def memory_spec() -> MemorySpec:
    spec = made("memory conv")[2].memory
    assert spec is not None
    return spec


@pytest.mark.parametrize("how", [fill, refresh])
def test_the_machine_at_hand_becomes_normal_and_its_faults_do_not(how: object) -> None:
    files = made("memory conv")[1].files
    model, spec = memory_model(files), memory_spec()
    windows, unseen = shifted(120, 11), shifted(60, 12)
    fresh = how(model, spec, files, windows)  # type: ignore[operator]  # one of two
    assert set(fresh) == {"memory.npy", "memory_scale.npy"}
    after = memory_model({**files, **fresh})
    before_scores, after_scores = scores(model, unseen), scores(after, unseen)
    assert np.quantile(after_scores, 0.99) < 0.2 * np.quantile(before_scores, 0.5)
    frozen = unseen.copy()
    frozen[:, 6:, 0] = frozen[:, 5:6, 0]
    noisy = unseen + RNG.normal(0, 0.4, unseen.shape).astype("f4")
    for faulty in (frozen, noisy):
        separated = auc(after_scores, scores(after, faulty))
        assert separated is not None
        assert separated > 0.99
    # The machine that the bundle was built on is another one from now on.
    assert scores(after, waves(60, 7)).mean() > 5 * after_scores.mean()


def test_the_same_windows_give_the_same_bytes_and_another_seed_others() -> None:
    files = made("memory conv")[1].files
    model, windows = memory_model(files), shifted(40, 11)
    first = fill(model, memory_spec(), files, windows)
    assert first == fill(model, memory_spec(), files, windows)
    assert first != fill(model, memory_spec(), files, windows, seed=2)
    assert {name: len(part) for name, part in first.items()} == {
        name: len(files[name]) for name in first
    }


def test_windows_that_say_nothing_are_refused() -> None:
    files = made("memory conv")[1].files
    model = memory_model(files)
    with pytest.raises(ValueError, match="record longer"):
        fill(model, memory_spec(), files, waves(0, 1))
    broken = waves(3, 1)
    broken[1, 2, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        refresh(model, memory_spec(), files, broken)


def test_every_share_of_every_code_is_counted_where_it_is_read() -> None:
    model = memory_model(made("memory conv")[1].files)
    codes = np.concatenate([model.codes(w) for w in waves(50, 4)])
    used = model.memory.used(codes)
    assert used.shape == (20,)
    assert used.sum() == pytest.approx(len(codes), rel=1e-4)


def test_codes_are_taken_once_while_there_are_enough() -> None:
    codes = np.arange(30, dtype="f4")[:, None]
    assert len(np.unique(chosen(RNG, codes, 30))) == 30
    assert chosen(RNG, codes, 50).shape == (50, 1)
    assert least_used(np.array([5.0, 0.0, 3.0, 1.0]), 0.5).tolist() == [1, 3]
    assert len(least_used(np.ones(4), 0.01)) == 1


def test_a_slot_of_zeros_is_no_division_by_zero() -> None:
    members = members_of(np.zeros((2, 3), "f4"))
    assert np.isfinite(np.frombuffer(members["memory_scale.npy"][-8:], "f4")).all()


def problem() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], Decoder]:
    """Slots, codes, targets and a decoder, in float64."""
    shapes = [(4, 6), (6,), (6, 3), (3,)]
    decoder = Decoder(*(RNG.normal(size=shape) for shape in shapes))
    return RNG.normal(size=(7, 4)), RNG.normal(size=(9, 4)), RNG.normal(size=(9, 3)), decoder


@pytest.mark.parametrize("nearest", [0, 3])
def test_the_gradient_is_what_a_small_step_does(nearest: int) -> None:
    slots, codes, targets, decoder = problem()
    reading = Reading(0.3, nearest, 0.0)

    def loss(slots: NDArray[np.float64]) -> float:
        logits = unit(codes) @ unit(slots).T / reading.temperature
        if nearest:
            logits[logits < np.sort(logits, axis=1)[:, -nearest, None]] = -np.inf
        read = shares_of(logits, np.float32(0.0)) @ slots
        inner = np.maximum(read @ decoder.first + decoder.first_bias, 0.0)
        made = inner @ decoder.second + decoder.second_bias
        return float(np.mean(np.square(made - targets)))

    found, step = gradient_of(slots, codes, targets, decoder, reading), 1e-5
    for place in np.ndindex(*slots.shape):
        moved = np.zeros_like(slots)
        moved[place] = step
        expected = (loss(slots + moved) - loss(slots - moved)) / (2 * step)
        assert found[place] == pytest.approx(expected, abs=1e-5)


def test_tuning_takes_as_many_steps_as_it_was_told() -> None:
    slots, codes, targets, decoder = problem()
    reading = Reading(0.3, 0, 0.0)
    still = tuned(slots, codes, targets, decoder, reading, RNG, steps=0)
    np.testing.assert_array_equal(still, slots)
    assert not np.array_equal(tuned(slots, codes, targets, decoder, reading, RNG, 5), slots)
