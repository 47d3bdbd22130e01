"""Index cost: what an index that finds the nearest slots costs a large memory, and what it gains.

In: the model as the gateway runs it, its members, held-out windows. Out: recall, rank correlation
and microseconds beside exact answers. Never: decides; the comparison with float has the index in it
already.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter_ns
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from converter.evaluate import Scores, spearman
from edge_agent.bundles.manifest import MemorySpec
from edge_agent.bundles.memory import (
    Features,
    Memory,
    MemoryModel,
    exact_nearest,
    read_memory,
    read_slots,
    unit,
)
from edge_agent.bundles.nearest import nearest

WINDOWS = 200


class IndexCost(NamedTuple):
    """Of the `nearest` slots of each code the index finds `recall`. Spearman of the scores: beside
    the exact nearest slots, and beside all of them. Microseconds are medians of reading one window
    with the index, with the exact nearest slots, and with all of them."""

    slots: int
    nearest: int
    recall: float
    spearman_exact: float
    spearman_all: float
    index_us: float
    exact_us: float
    all_us: float


def index_cost(
    model: MemoryModel, spec: MemorySpec, files: Mapping[str, bytes], windows: Features
) -> IndexCost:
    """`windows` float32[n, steps, features] are scaled; the first 200 of them count."""
    windows = windows[:WINDOWS]
    features = windows.shape[2]
    codes = [model.codes(window) for window in windows]
    exact = read_memory(spec, features, files, exact_nearest)
    # Not a memory that could ship: no more than 10,000 slots are read at once.
    whole = read_memory(spec.model_copy(update={"nearest": 0}), features, files)
    found = [_run(memory, codes, windows) for memory in (model.memory, exact, whole)]
    return IndexCost(
        spec.slots,
        spec.nearest,
        _recall(unit(read_slots(spec, files)), spec.nearest, codes),
        spearman(found[1][0], found[0][0]),
        spearman(found[2][0], found[0][0]),
        *(round(taken, 1) for _, taken in found),
    )


def _run(memory: Memory, codes: list[Features], windows: Features) -> tuple[Scores, float]:
    """Scores, and microseconds a window."""
    scores, taken = np.empty(len(codes)), []
    for i, (latent, window) in enumerate(zip(codes, windows, strict=True)):
        begin = perf_counter_ns()
        made = memory(latent)
        taken.append(perf_counter_ns() - begin)
        scores[i] = np.mean(np.square(window - made), dtype=np.float64)
    return scores, float(np.median(taken)) / 1e3


def _recall(keys: Features, count: int, codes: list[Features]) -> float:
    wanted, found = exact_nearest(keys, count), nearest(keys, count)
    shares: list[NDArray[np.float64]] = []
    for latent in codes:
        queries = unit(latent)
        pairs = zip(wanted(queries)[1], found(queries)[1], strict=True)
        shares.append(np.array([len(np.intersect1d(a, b)) / count for a, b in pairs]))
    return float(np.concatenate(shares).mean())
