"""The memory's read on the gateway: against a slow right answer, and against hostile members."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.bundles.manifest import MemorySpec, ModelSpec
from edge_agent.bundles.memory import Memory, MemoryModel, read_array, read_memory
from edge_agent.bundles.model import ModelError, model_of

SLOTS, DIM, HIDDEN, FEATURES, STEPS = 7, 4, 6, 3, 5
RNG = np.random.default_rng(5)


def spec(temperature: float = 0.5, shrinkage: float = 0.0) -> MemorySpec:
    return MemorySpec(
        slots=SLOTS, dim=DIM, hidden=HIDDEN, temperature=temperature, shrinkage=shrinkage
    )


def parts() -> tuple[np.ndarray, list[np.ndarray]]:
    """Slots, and kernels and biases of the decoder."""
    shapes = [(DIM, HIDDEN), (HIDDEN,), (HIDDEN, FEATURES), (FEATURES,)]
    return (
        RNG.normal(size=(SLOTS, DIM)).astype("f4"),
        [RNG.normal(size=shape).astype("f4") for shape in shapes],
    )


def slowly(
    wanted: MemorySpec, slots: np.ndarray, decoder: list[np.ndarray], latent: np.ndarray
) -> np.ndarray:
    """Step by step, slot by slot."""
    out = []
    for code in latent.astype(float):
        cosines = [code @ slot / (np.linalg.norm(code) * np.linalg.norm(slot)) for slot in slots]
        shares = np.exp(np.array(cosines) / wanted.temperature)
        shares /= shares.sum()
        if wanted.shrinkage:
            kept = np.array([share if share > wanted.shrinkage else 0.0 for share in shares])
            shares = kept / kept.sum()
        read = sum(share * slot for share, slot in zip(shares, slots, strict=True))
        hidden = np.maximum(read @ decoder[0] + decoder[1], 0.0)
        out.append(hidden @ decoder[2] + decoder[3])
    return np.array(out)


@pytest.mark.parametrize(("temperature", "shrinkage"), [(1.0, 0.0), (0.1, 0.0), (0.3, 0.1)])
def test_the_read_is_the_slow_right_answer(temperature: float, shrinkage: float) -> None:
    wanted, (slots, decoder) = spec(temperature, shrinkage), parts()
    latent = RNG.normal(size=(STEPS, DIM)).astype("f4")
    flat = np.concatenate([array.ravel() for array in decoder])
    found = Memory(wanted, FEATURES, slots, flat)(latent)
    assert (found.dtype, found.shape) == (np.dtype("f4"), (STEPS, FEATURES))
    np.testing.assert_allclose(found, slowly(wanted, slots, decoder, latent), atol=1e-5)


def test_a_code_of_zeros_or_a_huge_one_is_no_crash() -> None:
    slots, decoder = parts()
    memory = Memory(spec(1e-3), FEATURES, slots, np.concatenate([a.ravel() for a in decoder]))
    assert np.isfinite(memory(np.zeros((STEPS, DIM), "f4"))).all()
    assert np.isfinite(memory(np.full((STEPS, DIM), 1e15, "f4"))).all()


def test_the_backward_half_is_turned_round() -> None:
    slots, decoder = parts()
    memory = Memory(spec(), FEATURES, slots, np.concatenate([a.ravel() for a in decoder]))
    latent = RNG.normal(size=(STEPS, DIM)).astype("f4")
    halves = [latent[:, : DIM // 2], latent[::-1, DIM // 2 :]]
    window = np.zeros((STEPS, FEATURES), "f4")
    np.testing.assert_array_equal(MemoryModel(lambda _: halves, memory)(window), memory(latent))
    np.testing.assert_array_equal(MemoryModel(lambda _: [latent], memory)(window), memory(latent))


def npy(array: np.ndarray) -> bytes:
    target = io.BytesIO()
    np.save(target, array, allow_pickle=array.dtype == object)
    return target.getvalue()


def members() -> dict[str, bytes]:
    return {
        "memory.npy": npy(np.ones((SLOTS, DIM), np.int8)),
        "memory_scale.npy": npy(np.ones(SLOTS, "f4")),
        "decoder.npy": npy(np.zeros(spec().decoder_size(FEATURES), "f4")),
    }


def test_the_members_of_a_bundle_are_read() -> None:
    made = read_memory(spec(), FEATURES, members())(np.ones((STEPS, DIM), "f4"))
    np.testing.assert_array_equal(made, np.zeros((STEPS, FEATURES)))


HOSTILE: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "missing": ("memory.npy", lambda: b"", "is no array"),
    "junk": ("memory.npy", lambda: b"\x93NUMPY\x01\x00\xff\xff{", "is no array"),
    "later format": ("memory.npy", lambda: b"\x93NUMPY\x02\x00" + bytes(200), "is no array"),
    "pickle": ("memory.npy", lambda: npy(np.array([{}], object)), "is no array of int8 [7, 4]"),
    "too many slots": ("memory.npy", lambda: npy(np.ones((8, DIM), np.int8)), "is no array"),
    "huge by its header": (
        "memory.npy",
        lambda: npy(np.ones((SLOTS, DIM), np.int8)).replace(b"(7, 4)", b"(7, 9)"),
        "is no array",
    ),
    "cut": ("decoder.npy", lambda: members()["decoder.npy"][:-1], "too few"),
    "longer": ("decoder.npy", lambda: members()["decoder.npy"] + b"\0", "too many"),
    "float64": ("memory_scale.npy", lambda: npy(np.ones(SLOTS)), "is no array of float32"),
    "by column": (
        "memory.npy", lambda: npy(np.asfortranarray(np.ones((SLOTS, DIM), np.int8))), "is no array"
    ),
    "not a number": ("memory_scale.npy", lambda: npy(np.full(SLOTS, np.nan, "f4")), "not finite"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_a_member_that_is_not_what_the_manifest_says_is_refused(case: str) -> None:
    name, make, words = HOSTILE[case]
    with pytest.raises(ValueError, match=r"\.npy") as refusal:
        read_memory(spec(), FEATURES, {**members(), name: make()})
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


@given(at=st.integers(0, 1 << 12), byte=st.integers(0, 255))
def test_any_damage_to_an_array_is_one_error_or_an_array(at: int, byte: int) -> None:
    content = bytearray(members()["memory.npy"])
    content[at % len(content)] = byte
    try:
        found = read_array({"a": bytes(content)}, "a", np.dtype(np.int8), (SLOTS, DIM))
    except ValueError:
        return
    assert found.shape == (SLOTS, DIM)


def test_a_model_without_its_members_is_one_line() -> None:
    model = ModelSpec(family="memory", steps=STEPS, features=FEATURES, parameters=1, memory=spec())
    assert model.members == {"model.tflite", "memory.npy", "memory_scale.npy", "decoder.npy"}
    with pytest.raises(ModelError, match=r"lacks model\.tflite"):
        model_of(model, members())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"family": "memory"}, "family `memory`"),
        ({"family": "dense", "memory": spec()}, "family `memory`"),
        ({"family": "dense", "stepping": {"units": (4, 2), "rows": 5}}, "family `lstm`"),
        ({"family": "lstm", "stepping": {"units": (4, 2), "rows": 2}}, "multiple"),
    ],
)
def test_parts_that_do_not_belong_are_refused(fields: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ModelSpec(**{"steps": STEPS, "features": FEATURES, "parameters": 1, **fields})
