"""Networks: one bundle of each family, and inputs for them.

In: a folder. Out: bundles and `inputs.npz` in it, built once. Never: good networks: they are only
to be computed twice, so they are trained for a moment and no limit refuses them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from edge_agent.bundles.bundle import read_bundle
from tests.arm64.outputs import INPUTS_NAME
from tests.programs import COMPASS, VIBRATION, run

WINDOWS, SEED = 40, 7
# Whatever int8 costs, it is taken.
ANYTHING = ("--max-auc-loss", 1, "--min-spearman", -1, "--min-agreement", 0, "--max-size-ratio", 9,
            "--qat", "never")  # fmt: skip
BUILT = {
    "conv": ("--family", "conv"),
    "lstm-step": ("--family", "lstm", "--units", "16,8", "--form", "step"),
    "memory": ("--family", "memory", "--slots", "20"),
    "memory-conv": ("--family", "memory", "--encoder", "conv", "--slots", "20"),
}
DEFAULT = {"dense": VIBRATION, "lstm": COMPASS}


def networks(folder: Path) -> list[str]:
    """The names of the bundles; they are built now if they aren't there."""
    names = [*DEFAULT, *BUILT]
    if (folder / INPUTS_NAME).exists():
        return names
    folder.mkdir(parents=True, exist_ok=True)
    recording = folder / "compass.rec"
    recording.unlink(missing_ok=True)
    run("firmware_bridge", "simulate", "--machine", "compass", "--seed", SEED, "--seconds", 120,
        "--out", recording)  # fmt: skip
    for name, options in BUILT.items():
        run("converter", "build", "--normal", recording, "--name", name, "--serial", 1,
            "--front-end", "smooth", "--epochs", 2, *options, *ANYTHING, "--json",
            "--out", folder / f"{name}.otolith")  # fmt: skip
    for name, bundle in DEFAULT.items():
        shutil.copy(bundle, folder / f"{name}.otolith")
    random, inputs = np.random.default_rng(SEED), {}
    for name in names:
        spec = read_bundle(folder / f"{name}.otolith").manifest.model
        inputs[name] = random.normal(size=(WINDOWS, spec.steps, spec.features)).astype(np.float32)
    np.savez(folder / INPUTS_NAME, allow_pickle=False, **inputs)
    return names
