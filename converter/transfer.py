"""Transfer: the float weights of one build as the start of another.

In: a trained network. Out: `NAME.weights.npz` beside its bundle, and back. Never: pickles, starts
a network from one of another shape.

A second machine of a kind has only minutes of normal data when it is commissioned. What the first
one taught stays in the frozen layers; only the last ones learn the difference.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np

from converter.errors import ConverterError, UsageError
from converter.files import read_file, write_file
from converter.models import ModelSettings
from converter.models.training import Weights, read_model_settings
from edge_agent.bundles.manifest import Scaler

ENDING = ".weights.npz"
ABOUT = "about"


class FloatModel(NamedTuple):
    """A trained network in float, and the scaler of what it eats."""

    model: ModelSettings
    weights: Weights
    scaler: Scaler


def weights_path(bundle: Path) -> Path:
    """Where the float weights of a bundle lie."""
    return bundle.with_name(bundle.name.removesuffix(".otolith") + ENDING)


def write_weights(path: Path, trained: FloatModel) -> None:
    """An .npz of plain arrays, the description as JSON text among them."""
    about = {"model": asdict(trained.model), "scaler": trained.scaler.model_dump()}
    target = io.BytesIO()
    arrays = {f"weight_{i:03}": array for i, array in enumerate(trained.weights)}
    np.savez(target, allow_pickle=False, **{ABOUT: np.array(json.dumps(about))}, **arrays)
    write_file(path, target.getvalue())


def read_weights(path: Path) -> FloatModel:
    """Raises `ConverterError` if it is no such file."""
    content = io.BytesIO(read_file(path))
    try:
        with np.load(content, allow_pickle=False) as stored:
            about = json.loads(str(stored[ABOUT]))
            weights = [stored[key] for key in sorted(stored.files) if key != ABOUT]
        model, scaler = read_model_settings(about["model"]), Scaler(**about["scaler"])
    except (ValueError, KeyError, TypeError, BadZipFile, EOFError) as error:
        raise ConverterError(
            f"{path}: no float weights of ours ({error}): `build` writes them beside the bundle"
        ) from None
    return FloatModel(model, weights, scaler)


def start_weights(start: FloatModel, model: ModelSettings) -> Weights:
    """What the new network begins with. Raises `UsageError` if it is another network."""
    if start.model == model:
        return start.weights
    before, after = asdict(start.model), asdict(model)
    different = [
        f"{key} {before[key]}, not {after[key]}" for key in after if before[key] != after[key]
    ]
    raise UsageError(f"--from-float: those weights are of another network: {'; '.join(different)}")
