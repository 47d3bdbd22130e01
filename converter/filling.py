"""Filling: the draft of a manifest to the finished one, with what a build has learned.

In: draft, settings, what was trained, converted and compared. Out: the `Manifest` that ships.
Never: decides whether it may ship.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import asdict
from typing import Any, cast

from converter.build_settings import BuildSettings, Roles, training
from converter.bundle import file_entry
from converter.dataset import WindowSet
from converter.fidelity import Comparison, Rated
from converter.models import ModelSettings
from converter.models.training import Trained
from edge_agent.bundles.manifest import Manifest, ModelSpec, Provenance, RepresentativeWindow

PACKAGES = ("otolith", "tensorflow", "keras", "tf_keras", "ai-edge-litert", "numpy")


def fill(
    draft: Manifest,
    settings: BuildSettings,
    roles: Roles,
    model: ModelSettings,
    spec: ModelSpec,
    representative: WindowSet,
    comparison: Comparison,
    files: dict[str, bytes],
    learned_rounding: bool,
) -> Manifest:
    """`draft` has its scaler already; `representative` are the windows that fixed int8's ranges."""
    rated, recordings = cast(Rated, comparison.int8), roles.all()
    chosen = zip(representative.recording, representative.first_row, strict=True)
    provenance = Provenance(
        recordings={recording.name: recording.sha256 for recording in recordings},
        representative=tuple(
            RepresentativeWindow(recording=recordings[number].name, first_row=int(row))
            for number, row in chosen
        ),
        seed=settings.train.seed,
        versions=_versions(),
        settings=_recorded(settings, roles, model, learned_rounding),
    )
    changes = {
        "serial": settings.serial,
        "created": settings.created,
        "model": spec,
        "threshold": rated.threshold,
        "alarm": settings.alarm,
        "normal_error": rated.normal_error,
        "measures": measures(comparison),
        "provenance": provenance,
        "files": {name: file_entry(content) for name, content in files.items()},
    }
    return Manifest.model_validate(draft.model_copy(update=changes).model_dump())


def model_spec(model: ModelSettings, trained: Trained, parts: dict[str, Any]) -> ModelSpec:
    """What the manifest says of the network."""
    return ModelSpec.model_validate(
        {
            "family": model.family,
            "steps": model.steps,
            "features": model.features,
            "parameters": trained.parameters,
            **parts,
        }
    )


def measures(comparison: Comparison) -> dict[str, Any]:
    """Float, int8 and linear side by side, as they stand in the bundle."""
    int8 = comparison.int8
    return {
        "float": comparison.float32.measures(),
        "int8": None if int8 is None else int8.measures(),
        "linear": comparison.linear.measures(),
        "size_ratio": comparison.size_ratio,
        "auc_delta": comparison.auc_delta,
        "spearman": comparison.spearman,
        "alarm_agreement": comparison.alarm_agreement,
    }


def _recorded(
    settings: BuildSettings, roles: Roles, model: ModelSettings, learned_rounding: bool
) -> dict[str, Any]:
    """The settings that no other field of the manifest holds."""
    fitting = asdict(training(settings))
    for key in ("tensorboard", "timeout_seconds", "seed"):
        fitting.pop(key)
    fitting["losses"] = dict(fitting["losses"])
    return {
        "units": list(model.units),
        "activation": model.activation,
        "memory": asdict(model.memory) if model.memory else None,
        "activations": settings.activations,
        "learned_rounding": learned_rounding,
        "started_from_float": settings.start is not None,
        "shares": settings.shares._asdict(),
        "train_hop": settings.train_hop,
        "headroom": settings.headroom,
        "speed_bins": settings.speed_bins if settings.speed_channel else None,
        "train": fitting,
        "limits": asdict(settings.limits),
        "normal": [recording.name for recording in roles.normal],
        "held_out": [recording.name for recording in roles.held_out],
        "evaluate": [recording.name for recording in roles.evaluate],
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
