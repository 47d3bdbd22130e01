"""Nearest: which slots of a large memory lie nearest to a code, found in an index.

In: the slots as unit vectors, how many are wanted. Out: a callable that finds them for unit codes.
Never: decides what is made of them; takes more than one thread.

Above some 10,000 slots most of a window's time would go into comparing it with slots that say
nothing about it. faiss keeps them in cells around centres (an inverted file) and looks only into
the cells that are nearest: of a hundred wanted slots one to three are missed, and whether that is
too many, `edge-converter build` measures.
Where faiss is not installed every slot is compared, which finds all of them and takes longer.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from edge_agent.bundles.memory import Cosines, Features, Find, Places, exact_nearest

# Cells: twice the root of the slots; how many of them are probed.
CELLS_A_ROOT = 2.0
PROBED_CELLS = 32
ITERATIONS = 10


def nearest(keys: Features, count: int) -> Find:
    """An index if it can be had, else the exact answer; that is said once."""
    try:
        import faiss
    except ImportError:
        warnings.warn(
            f"faiss is not installed: each code is compared with all {len(keys)} slots, which "
            "takes longer: pip install 'otolith[index]'",
            stacklevel=2,
        )
        return exact_nearest(keys, count)
    return indexed_nearest(faiss, keys, count)


def indexed_nearest(faiss: Any, keys: Features, count: int) -> Find:
    """The index of `keys` float32[slots, dim]; the same keys give the same index."""
    # The gateway has other things to do.
    faiss.omp_set_num_threads(1)
    cells = max(1, round(CELLS_A_ROOT * len(keys) ** 0.5))
    centres = faiss.IndexFlatIP(keys.shape[1])
    index = faiss.IndexIVFFlat(centres, keys.shape[1], cells, faiss.METRIC_INNER_PRODUCT)
    index.cp.niter = ITERATIONS
    index.nprobe = PROBED_CELLS
    index.train(keys)
    index.add(keys)

    def find(codes: Features) -> tuple[Cosines, Places]:
        cosines, places = index.search(np.ascontiguousarray(codes), count)
        # Cells that hold fewer than are wanted leave places of -1: shares of 0.
        cosines[places < 0] = -np.inf
        return cosines, np.maximum(places, 0)

    return find
