"""Large memories: the nearest slots, found exactly or in an index, read alike."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from converter.console import Silent
from converter.evaluate import spearman
from converter.filling import model_spec
from converter.index_cost import index_cost
from converter.models import ModelSettings
from converter.models.memory import MemorySettings
from converter.models.training import TrainSettings, train
from converter.quantize import convert
from edge_agent.bundles.interpreter import Interpreter
from edge_agent.bundles.manifest import MemorySpec
from edge_agent.bundles.memory import Memory, MemoryModel, exact_nearest, unit
from edge_agent.bundles.model import model_of
from edge_agent.bundles.nearest import nearest
from tests.test_memory import DIM, FEATURES, SLOTS, parts, slowly, spec
from tests.test_models import waves

RNG = np.random.default_rng(8)
COUNT = 16


def directions(count: int, dim: int = 24) -> NDArray[np.float32]:
    """Codes as networks make them: few degrees of freedom in many numbers."""
    mixing = np.random.default_rng(1).normal(size=(2, 5, dim))
    place = RNG.normal(size=(count, 5))
    return unit((np.tanh(place) @ mixing[0] + place @ mixing[1]).astype("f4"))


@pytest.fixture(scope="module")
def keys() -> NDArray[np.float32]:
    return directions(12_000)


def test_exact_is_exact(keys: NDArray[np.float32]) -> None:
    codes = directions(20)
    cosines, places = exact_nearest(keys, COUNT)(codes)
    assert cosines.shape == places.shape == (20, COUNT)
    for code, found, slots in zip(codes, cosines, places, strict=True):
        all_of_them = keys @ code
        np.testing.assert_allclose(np.sort(found), np.sort(all_of_them)[-COUNT:], atol=1e-5)
        np.testing.assert_allclose(found, all_of_them[slots], atol=1e-5)


def test_the_index_misses_little(keys: NDArray[np.float32]) -> None:
    codes = directions(200)
    wanted, (cosines, places) = exact_nearest(keys, COUNT)(codes)[1], nearest(keys, COUNT)(codes)
    hits = [len(np.intersect1d(a, b)) for a, b in zip(wanted, places, strict=True)]
    assert np.mean(hits) > 0.95 * COUNT
    np.testing.assert_allclose(cosines, np.einsum("cd,ckd->ck", codes, keys[places]), atol=1e-5)
    # Each slot is its own nearest.
    assert (nearest(keys, 1)(keys[:300])[1][:, 0] == np.arange(300)).mean() > 0.99
    again = nearest(keys, COUNT)(codes)
    np.testing.assert_array_equal(again[1], places)


def test_cells_that_hold_too_few_are_no_crash() -> None:
    """Half of the slots lie in one direction, so most cells are small."""
    keys = unit(np.concatenate([directions(400), np.ones((400, 24), "f4")]))
    cosines, places = nearest(keys, 300)(directions(5))
    assert places.min() >= 0
    assert places.max() < 800
    assert np.isfinite(cosines).any(axis=1).all()
    wanted = MemorySpec(slots=800, dim=24, hidden=2, temperature=0.1, shrinkage=0.0, nearest=300)
    decoder = np.ones(wanted.decoder_size(1), "f4")
    made = Memory(wanted, 1, keys, decoder, nearest)(directions(5))
    assert np.isfinite(made).all()


def test_where_faiss_is_missing_the_exact_answer_is_used_and_said(
    keys: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    codes = directions(10)
    with pytest.warns(UserWarning, match=r"all 12000 slots.*otolith\[index\]"):
        find = nearest(keys, COUNT)
    np.testing.assert_array_equal(find(codes)[1], exact_nearest(keys, COUNT)(codes)[1])


@pytest.mark.parametrize("shrinkage", [0.0, 0.1])
def test_only_the_nearest_slots_are_read(shrinkage: float) -> None:
    slots, decoder = parts()
    flat = np.concatenate([array.ravel() for array in decoder])
    few = spec(0.3, shrinkage).model_copy(update={"nearest": 3})
    memory = Memory(few, FEATURES, slots, flat)
    latent = RNG.normal(size=(5, DIM)).astype("f4")
    for code, made in zip(latent, memory(latent), strict=True):
        best = np.argsort(unit(slots) @ code)[-3:]
        expected = slowly(spec(0.3, shrinkage), slots[best], decoder, code[None])
        np.testing.assert_allclose(made, expected[0], atol=1e-5)
    used = memory.used(latent)
    assert used.shape == (SLOTS,)
    assert used.sum() == pytest.approx(5, rel=1e-5)


@pytest.mark.usefixtures("warm")
def test_a_large_memory_is_trained_as_it_is_read() -> None:
    settings = MemorySettings(encoder="conv", slots=10_001)
    network = ModelSettings("memory", 12, 2, (4, 4, 4), "relu", settings)
    fit, unseen = waves(96, 1), waves(40, 2)
    trained = train(network, TrainSettings(epochs=1), fit, fit[:32], Silent())
    converted = convert(network, trained.weights, fit)
    shape = model_spec(network, trained, converted.parts)
    assert shape.memory is not None
    assert shape.memory.nearest == 64
    model, float32 = model_of(shape, converted.files), Interpreter(converted.float32)
    assert isinstance(model, MemoryModel)
    scores = [[np.mean(np.square(m(w) - w), dtype=float) for w in unseen] for m in (float32, model)]
    assert spearman(np.array(scores[0]), np.array(scores[1])) > 0.95
    cost = index_cost(model, shape.memory, converted.files, unseen)
    assert (cost.slots, cost.nearest) == (10_001, 64)
    assert cost.recall > 0.9
    assert cost.spearman_exact > 0.95
    assert min(cost.index_us, cost.exact_us, cost.all_us) > 0


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"slots": 10_001}, "only the nearest"),
        ({"slots": 10, "nearest": 11}, "at most slots"),
        ({"slots": 1 << 18, "dim": 256, "nearest": 64}, "slots x dim"),
        ({"slots": (1 << 18) + 1, "nearest": 64}, "less than or equal"),
        ({"slots": 20_000, "nearest": 1025}, "less than or equal"),
    ],
)
def test_a_memory_has_bounds(fields: dict[str, int], words: str) -> None:
    usual = {"slots": 100, "dim": 8, "hidden": 4, "temperature": 0.1, "shrinkage": 0.0}
    with pytest.raises(ValueError, match=words):
        MemorySpec.model_validate({**usual, **fields})
