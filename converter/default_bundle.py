"""Default bundles: the two models that the demo runs, built from simulated healthy machines.

In: a folder. Out: `vibration.otolith` and `compass.otolith` in it, the same bytes on the same
workstation every time. Never: a machine (a seed) in more than one of fit, held-out and evaluation.

This is also the shortest example of a build from Python.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from converter.build import Built, build
from converter.build_settings import BuildSettings, Roles
from converter.bundle import write_bundle
from converter.console import Steps, print_json, steps
from converter.dataset import Shares
from converter.errors import EXIT_NO
from converter.models.training import TrainSettings
from converter.recordings import Recording, parse_recording
from converter.verdict import show, verdict
from edge_agent.bundles.manifest import AlarmSpec, SmoothFrontEnd, SpectralFrontEnd, WindowSpec
from firmware_bridge.sampler import sampled
from firmware_bridge.signals import Fault
from firmware_bridge.simulator import machine_sources

# A fixed date and serial, so that the files only change when the model does.
CREATED = "2026-11-22T00:00:00+00:00"
SERIAL = 1


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one bundle is made: which machines, how long, and what it has to find."""

    machine: str
    settings: BuildSettings
    fit_seeds: range
    held_out_seeds: range
    evaluation_seeds: range
    seconds: float
    evaluation_seconds: float
    faults: tuple[Fault, ...]


VIBRATION = Recipe(
    machine="vibration",
    settings=BuildSettings(
        name="vibration",
        family="dense",
        front_end=SpectralFrontEnd(),
        window=WindowSpec(length=SpectralFrontEnd().window_samples, hop=800),
        train_hop=800,
        shares=Shares(fit=0.8, validation=0.2),
        train=TrainSettings(epochs=60, batch_size=64),
        q=0.999,
        alarm=AlarmSpec(on_delay_windows=4, off_delay_windows=8),
        serial=SERIAL,
        created=CREATED,
    ),
    fit_seeds=range(1000, 1024),
    held_out_seeds=range(2000, 2010),
    evaluation_seeds=range(3000, 3003),
    seconds=60.0,
    evaluation_seconds=30.0,
    faults=(
        Fault("bearing", 15.0, None, 1.0, "x"),
        Fault("bearing", 15.0, None, 1.0, "y"),
        Fault("bearing", 15.0, None, 1.0, "z"),
        Fault("unbalance", 15.0),
        Fault("looseness", 15.0),
    ),
)

COMPASS_SMOOTH = SmoothFrontEnd(ewma_alpha=0.1, decimate=10, settle_samples=30)

COMPASS = Recipe(
    machine="compass",
    settings=BuildSettings(
        name="compass",
        family="lstm",
        front_end=COMPASS_SMOOTH,
        window=WindowSpec(length=50, hop=10),
        train_hop=10,
        shares=Shares(fit=0.8, validation=0.2),
        train=TrainSettings(epochs=40, batch_size=64),
        q=0.999,
        alarm=AlarmSpec(on_delay_windows=3, off_delay_windows=5),
        serial=SERIAL,
        created=CREATED,
    ),
    fit_seeds=range(1000, 1096),
    held_out_seeds=range(2000, 2032),
    evaluation_seeds=range(3000, 3008),
    seconds=60.0,
    evaluation_seconds=120.0,
    faults=(Fault("drift", 40.0, None, 1.0, "x"), Fault("drift", 40.0, None, 1.0, "y")),
)

RECIPES = (VIBRATION, COMPASS)


def add_default_bundles(commands: Any) -> None:
    """The command line of `default-bundles`."""
    parser = commands.add_parser("default-bundles", help="the two bundles that the demo runs")
    parser.set_defaults(run=run_default_bundles)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--only", choices=[recipe.machine for recipe in RECIPES])
    parser.add_argument("--json", action="store_true", help="one verdict a bundle")


def run_default_bundles(options: argparse.Namespace) -> int:
    """Builds both; exit 1 if one is refused."""
    accepted = True
    for recipe in RECIPES:
        if options.only in (None, recipe.machine):
            out = options.out / f"{recipe.machine}.otolith"
            with steps() as progress:
                built = build_recipe(recipe, progress)
            if built.manifest is not None:
                write_bundle(out, built.manifest, built.files)
            if options.json:
                print_json(verdict(built, out))
            else:
                show(recipe.settings.name, built, out)
            accepted = accepted and built.comparison.accepted
    return 0 if accepted else EXIT_NO


def build_recipe(recipe: Recipe, progress: Steps | None = None) -> Built:
    """Simulates the machines and builds."""
    evaluate = [
        simulated(recipe.machine, seed, recipe.evaluation_seconds, fault)
        for seed in recipe.evaluation_seeds
        for fault in recipe.faults
    ]
    roles = Roles(
        [simulated(recipe.machine, seed, recipe.seconds) for seed in recipe.fit_seeds],
        [simulated(recipe.machine, seed, recipe.seconds) for seed in recipe.held_out_seeds],
        evaluate,
    )
    return build(recipe.settings, roles, progress)


def simulated(machine: str, seed: int, seconds: float, fault: Fault | None = None) -> Recording:
    """What a simulated board would have sent in the first `seconds`."""
    document, sources = machine_sources([machine], seed, faults=[fault] if fault else [])
    name = f"{machine}-{seed}" + (f"-{fault.kind}-{fault.channel or 'usual'}" if fault else "")
    recording = parse_recording(f"{name}.rec", b"".join(sampled(document, sources, seconds)))
    if fault is None:
        return recording
    times = np.arange(recording.rows) / recording.stream.rate_hz
    return recording._replace(anomalous=fault.active(times) > 0)
