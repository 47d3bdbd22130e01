"""Slots: which codes of normal moments a memory keeps. The training and the site choose alike.

In: a memory and what stands before it, windows of a machine that is well. Out: other slots, as the
members of a bundle. Never: TensorFlow, a file, another decoder or encoder.

    fill      cold start: every slot begins as the code of a moment of these windows
    refresh   only the least used slots do; the others begin with what they know

What is filled on site has other scores than what the converter has built, so the threshold must be
commissioned anew, on other windows of the same machine. Fill only from a machine that is well: a
fault that is in the memory is normal from then on.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundles.manifest import MEMORY_NAME, SCALE_NAME, MemorySpec
from edge_agent.bundles.memory import MemoryModel, read_decoder, read_slots
from edge_agent.bundles.slot_tuning import STEPS, Reading, tuned

Features: TypeAlias = NDArray[np.float32]
Members: TypeAlias = dict[str, bytes]

RENEWED_SHARE = 0.1
SEED = 1
SLOTS_OF_ALL_STEPS = 2000
LEAST_STEPS = 30
# Codes that are looked at: more do not tell more, and the gateway's memory is small.
MAX_NUMBERS = 1 << 24


def fill(
    model: MemoryModel,
    spec: MemorySpec,
    files: Mapping[str, bytes],
    windows: Features,
    seed: int = SEED,
) -> Members:
    """`memory.npy` and `memory_scale.npy` with moments of these windows alone.

    `windows` float32[n, steps, features] are scaled by the bundle's own scaler; `files` are its
    members. Raises `ValueError` if there is no window, or one is not finite.
    """
    random = np.random.default_rng(seed)
    moments = moments_of(model, spec, windows, random)
    slots = chosen(random, moments.codes, spec.slots)
    return members_of(_tuned(slots, moments, spec, files, random))


def refresh(
    model: MemoryModel,
    spec: MemorySpec,
    files: Mapping[str, bytes],
    windows: Features,
    share: float = RENEWED_SHARE,
    seed: int = SEED,
) -> Members:
    """The same, but only the least used `share` of the slots begin anew; the others begin with what
    they know, and move as far as these windows need it."""
    random = np.random.default_rng(seed)
    moments = moments_of(model, spec, windows, random)
    slots = read_slots(spec, files)
    renewed = least_used(model.memory.used(moments.codes), share)
    slots[renewed] = chosen(random, moments.codes, len(renewed))
    return members_of(_tuned(slots, moments, spec, files, random))


class Moments(NamedTuple):
    """Single steps of windows: codes float32[n, dim], features float32[n, features]."""

    codes: Features
    features: Features


def moments_of(
    model: MemoryModel, spec: MemorySpec, windows: Features, random: np.random.Generator
) -> Moments:
    """All moments of the windows; of some of them, if they are many."""
    if not len(windows):
        raise ValueError("no normal window to fill the memory from: record longer")
    if not np.isfinite(windows).all():
        raise ValueError("a window to fill the memory from holds a number that is not finite")
    most = max(1, MAX_NUMBERS // (windows.shape[1] * spec.dim))
    some = windows[np.sort(random.permutation(len(windows))[:most])]
    codes = np.concatenate([model.codes(window) for window in some])
    return Moments(codes, some.reshape(len(codes), -1))


def _tuned(
    slots: Features,
    moments: Moments,
    spec: MemorySpec,
    files: Mapping[str, bytes],
    random: np.random.Generator,
) -> Features:
    reading = Reading(spec.temperature, spec.nearest, spec.shrinkage)
    decoder = read_decoder(spec, moments.features.shape[1], files)
    # What a step takes grows with the slots; many of them begin nearer to where they should be.
    steps = min(STEPS, max(LEAST_STEPS, STEPS * SLOTS_OF_ALL_STEPS // spec.slots))
    return tuned(slots, moments.codes, moments.features, decoder, reading, random, steps)


def chosen(random: np.random.Generator, codes: Features, count: int) -> Features:
    """So many of the codes; each at most once, as long as there are enough of them."""
    return codes[random.choice(len(codes), count, replace=len(codes) < count)]


def least_used(used: NDArray[np.floating], share: float = RENEWED_SHARE) -> NDArray[np.intp]:
    """The places of that share of the slots, at least one: what nothing reads, says nothing."""
    return np.argsort(used, kind="stable")[: max(1, round(share * len(used)))]


def members_of(slots: Features) -> Members:
    """Slots float32[slots, dim] as they stand in a bundle: each in int8 with a scale of its own."""
    scale = np.maximum(np.abs(slots).max(axis=1), np.finfo(np.float32).tiny) / 127.0
    levels = np.rint(slots / scale[:, None]).astype(np.int8)
    return {MEMORY_NAME: npy(levels), SCALE_NAME: npy(scale.astype(np.float32))}


def npy(array: NDArray[np.generic]) -> bytes:
    """The bytes of a `.npy` file."""
    target = io.BytesIO()
    np.save(target, array, allow_pickle=False)
    return target.getvalue()
