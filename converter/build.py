"""Build: recordings of a healthy machine to a bundle and what it is worth. All steps in order.

    recordings -> windows -> scaler -> training -> int8 -> comparison -> threshold -> bundle

In: recordings and settings. Out: a `Built` with the verdict; the manifest only if int8 is accepted.
Never: looks at a held-out window before the model is finished, writes a file, reads a clock.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from converter.baseline import LinearRival
from converter.build_settings import (
    BuildSettings,
    Roles,
    check_recordings,
    draft,
    network,
    training,
)
from converter.console import Silent, Steps
from converter.dataset import Dataset, fit_scaler, make_dataset
from converter.evaluate import Scores
from converter.fidelity import Comparison, Rated, compare, rate
from converter.filling import fill, model_spec
from converter.layers import LayerError, worst
from converter.models import ModelSettings
from converter.models.training import Trained, train
from converter.quantize import Converted, convert, representative_rows
from converter.transfer import FloatModel, start_weights
from edge_agent.front_end import make_front_end
from edge_agent.interpreter import Interpreter
from edge_agent.manifest import Manifest, ModelSpec, ThresholdSpec
from edge_agent.model import model_of
from edge_agent.pipeline import Model
from edge_agent.scoring import Scorer
from edge_agent.threshold import commission

__all__ = ["BuildSettings", "Built", "Roles", "Runners", "build"]


class Runners(NamedTuple):
    """The models as the gateway runs them; `int8` None if it can't be made."""

    float32: Model
    int8: Model | None


class Built(NamedTuple):
    """`manifest` and `files` (its members) only where `comparison.accepted`; `runners` are what was
    compared, `layers` what int8 costs in each."""

    comparison: Comparison
    trained: Trained
    windows: dict[str, int]
    manifest: Manifest | None
    files: dict[str, bytes]
    runners: Runners
    float_model: FloatModel
    layers: tuple[LayerError, ...]


def build(settings: BuildSettings, roles: Roles, steps: Steps | None = None) -> Built:
    """The whole way. Raises `ConverterError` where it can't be gone."""
    steps = steps or Silent()
    check_recordings(roles)
    bare = draft(settings, roles)
    model = network(settings, bare)
    start = start_weights(settings.start, model) if settings.start else None
    steps.begin("windows")
    dataset = make_dataset(
        bare, roles.normal, roles.held_out, roles.evaluate, settings.shares, settings.train_hop
    )
    scaled = bare.model_copy(update={"scaler": fit_scaler(dataset.fit)})
    scorer = _scorer(scaled)
    fit, validation = scorer.scale(dataset.fit.features), scorer.scale(dataset.validation.features)
    trained = train(model, training(settings), fit, validation, steps, start)
    chosen = representative_rows(fit, settings.representative)
    steps.begin("float and int8")
    converted = convert(
        model,
        trained.weights,
        fit[chosen],
        settings.headroom,
        int8=model.int8_refusal is None,
        activations=settings.activations,
        form=settings.form,
    )
    steps.begin("comparison")
    spec = model_spec(model, trained, converted.parts)
    runners = _runners(spec, converted)
    comparison = _compare(settings, scorer, dataset, fit, converted, runners, model)
    manifest = None
    if comparison.accepted:
        manifest = fill(
            scaled, settings, roles, model, spec, dataset.fit.pick(chosen), comparison,
            converted.files,
        )  # fmt: skip
    counts = {name: len(part) for name, part in dataset._asdict().items()}
    shipped = converted.files if manifest else {}
    float_model = FloatModel(model, trained.weights, scaled.scaler)
    return Built(
        comparison, trained, counts, manifest, shipped, runners, float_model, converted.layers
    )


def _runners(spec: ModelSpec, converted: Converted) -> Runners:
    int8 = model_of(spec, converted.files) if converted.files else None
    return Runners(Interpreter(converted.float32), int8)


def _scorer(draft: Manifest) -> Scorer:
    front_end = make_front_end(draft.front_end, draft.sensor)
    return Scorer(draft.scaler, draft.normal_error, front_end.channel_of)


def _compare(
    settings: BuildSettings,
    scorer: Scorer,
    dataset: Dataset,
    fit: np.typing.NDArray[np.float32],
    converted: Converted,
    runners: Runners,
    model: ModelSettings,
) -> Comparison:
    def threshold(scores: Scores) -> ThresholdSpec:
        found = commission(
            scores, settings.threshold, settings.q, settings.factor, settings.adaptive
        )
        return found.model_copy(update={"absolute": settings.absolute})

    def rated(runner: Model, size_bytes: int) -> Rated:
        return rate(runner, size_bytes, scorer, dataset.held_out, dataset.evaluate, threshold)

    rival = LinearRival(fit)
    linear = rated(rival, 4 * rival.parameters)
    size_bytes = sum(map(len, converted.files.values()))
    int8 = rated(runners.int8, size_bytes) if runners.int8 else None
    before = rated(runners.float32, len(converted.float32))
    return compare(
        before, int8, linear, settings.limits, model.int8_refusal, worst(converted.layers)
    )
