"""Labels: which rows of a recording are known to be anomalous, in a file beside it.

In: rows as booleans. Out: `NAME.labels.json` and back. Never: a label that the rows can't have.

A row is counted among the samples of the recording as they lie in the file; gaps don't count.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converter.errors import ConverterError

Flags = NDArray[np.bool_]


def labels_path(recording: Path) -> Path:
    """`NAME.labels.json` for `NAME.rec`."""
    return recording.with_name(recording.stem + ".labels.json")


def labels_document(anomalous: Flags) -> bytes:
    """`{"rows": n, "anomalous": [[first, last_exclusive], ...]}`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], anomalous, [False]]).astype(np.int8)))
    runs = [[int(first), int(end)] for first, end in edges.reshape(-1, 2)]
    return json.dumps({"rows": len(anomalous), "anomalous": runs}).encode() + b"\n"


def read_labels(path: Path, rows: int) -> Flags:
    """bool[rows]. Raises `ConverterError` if the file does not fit the recording."""
    try:
        document = json.loads(path.read_bytes())
        said = document["rows"]
        runs = [(int(first), int(end)) for first, end in document["anomalous"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ConverterError(f"{path.name} is no label file: {error!r}: import again") from None
    _check(path, said, rows, runs)
    anomalous = np.zeros(rows, np.bool_)
    for first, end in runs:
        anomalous[first:end] = True
    return anomalous


def _check(path: Path, said: Any, rows: int, runs: list[tuple[int, int]]) -> None:
    if said != rows:
        raise ConverterError(f"{path.name} is for {said} rows, the recording has {rows}")
    if any(not 0 <= first < end <= rows for first, end in runs):
        raise ConverterError(f"{path.name}: an interval lies outside of the {rows} rows")
