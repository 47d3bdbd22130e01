"""Build: recordings of a healthy machine to a bundle and what it is worth. All steps in order.

    recordings -> windows -> scaler -> training -> attempt (int8, comparison, threshold) -> bundle

In: recordings and settings. Out: a `Built` with the verdict; the manifest only if int8 is accepted.
Never: looks at a held-out window before the model is finished, writes a file, reads a clock.
"""

from __future__ import annotations

from typing import NamedTuple

from converter.attempt import Attempt, Judge, Learned, Runners
from converter.build_settings import (
    BuildSettings,
    Roles,
    check_recordings,
    draft,
    network,
    training,
)
from converter.console import Silent, Steps
from converter.dataset import Features, fit_scaler, make_dataset
from converter.fidelity import Comparison
from converter.filling import fill
from converter.index_cost import IndexCost, index_cost
from converter.layers import LayerError
from converter.models.training import Trained, train
from converter.quantize import representative_rows
from converter.transfer import FloatModel, start_weights
from edge_agent.bundles.manifest import Manifest
from edge_agent.bundles.memory import MemoryModel
from edge_agent.judging.front_end import make_front_end
from edge_agent.judging.scoring import Scorer

__all__ = ["BuildSettings", "Built", "Roles", "Runners", "build"]


class Built(NamedTuple):
    """`manifest` and `files` (its members) only where `comparison.accepted`; `runners` are what was
    compared, `layers` what int8 costs in each, `learned` whether it was made with weights that have
    learned to be rounded, `index_cost` what the index of a large memory costs."""

    comparison: Comparison
    trained: Trained
    windows: dict[str, int]
    manifest: Manifest | None
    files: dict[str, bytes]
    runners: Runners
    float_model: FloatModel
    layers: tuple[LayerError, ...]
    learned: Learned
    index_cost: IndexCost | None


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
    scaler = fit_scaler(dataset.fit)
    scaled = bare.model_copy(update={"scaler": scaler, "score": settings.score})
    scorer = _scorer(scaled)
    fit, validation = scorer.scale(dataset.fit.features), scorer.scale(dataset.validation.features)
    trained = train(model, training(settings), fit, validation, steps, start)
    chosen = representative_rows(fit, settings.representative)
    judge = Judge(settings, model, trained, scorer, dataset, fit[chosen])
    best, learned = judge.best(steps)
    manifest = None
    if best.comparison.accepted:
        manifest = fill(
            scaled, settings, roles, model, best.spec, dataset.fit.pick(chosen), best.comparison,
            best.converted.files, learned.used,
        )  # fmt: skip
    return Built(
        best.comparison,
        trained,
        {name: len(part) for name, part in dataset._asdict().items()},
        manifest,
        best.converted.files if manifest else {},
        best.runners,
        FloatModel(model, trained.weights, scaler),
        best.converted.layers,
        learned,
        _index_cost(best, scorer.scale(dataset.held_out.features)),
    )


def _index_cost(best: Attempt, held_out: Features) -> IndexCost | None:
    model, spec = best.runners.int8, best.spec.memory
    if spec is None or not spec.nearest or not isinstance(model, MemoryModel):
        return None
    return index_cost(model, spec, best.converted.files, held_out)


def _scorer(draft: Manifest) -> Scorer:
    front_end = make_front_end(draft.front_end, draft.sensor)
    return Scorer(draft.scaler, draft.normal_error, front_end.channel_of, draft.score)
