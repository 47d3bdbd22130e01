"""Export command: `edge-converter export BUNDLE|WEIGHTS --out DIR`.

In: the float weights of a build. Out: `DIR/VERSION/`, a SavedModel that TensorFlow Serving loads
as it is. Never: exports int8: of a bundle, the float weights beside it are taken.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from converter.build_options import whole
from converter.child import run_child
from converter.console import print_json, print_line
from converter.errors import UsageError
from converter.transfer import ENDING, FloatModel, read_weights, weights_path

MODULE = "converter.export_child"
TIMEOUT_SECONDS = 600.0
SIGNATURE = "serving_default"
INPUT, OUTPUTS = "features", ("reconstruction", "score")


def add_export(commands: Any) -> None:
    """The command line of `export`."""
    parser = commands.add_parser("export", help="float weights to a SavedModel for a server")
    parser.set_defaults(run=run_export)
    parser.add_argument("source", type=Path, metavar="BUNDLE|WEIGHTS")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--version", type=whole, default=1, help="the server takes the highest")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run_export(options: argparse.Namespace) -> int:
    """Writes the SavedModel and says how to call it."""
    target = options.out / str(options.version)
    if target.exists():
        raise UsageError(f"{target} exists: give another --version")
    path = options.source if options.source.name.endswith(ENDING) else weights_path(options.source)
    trained = read_weights(path)
    export(trained, target)
    model = trained.model
    shape = [-1, model.steps, model.features]
    document = {"saved_model": str(target), "signature": SIGNATURE, "inputs": {INPUT: shape},
                "outputs": {OUTPUTS[0]: shape, OUTPUTS[1]: [-1]}}  # fmt: skip
    if options.json:
        print_json(document)
    else:
        print_line(
            f"written: {target}, signature {SIGNATURE}: {INPUT} float32{shape} in feature units -> "
            f"{OUTPUTS[0]} (scaled units), {OUTPUTS[1]}"
        )
    return 0


def export(trained: FloatModel, target: Path) -> None:
    """Writes a SavedModel with the scaler in it. Raises `ConverterError` if it fails."""
    with tempfile.TemporaryDirectory(prefix="otolith-") as name:
        folder = Path(name)
        job = {"model": asdict(trained.model), "target": str(target.resolve()),
               "scaler": trained.scaler.model_dump()}  # fmt: skip
        (folder / "job.json").write_text(json.dumps(job))
        np.savez(folder / "weights.npz", *trained.weights)
        run_child(MODULE, folder, "the export", TIMEOUT_SECONDS)
