"""Outputs: what each network of a folder of bundles makes of given inputs. Runs on both machines.

In: a folder with bundles and `inputs.npz`. Out: an `.npz`: per bundle the model's outputs, and of
each of its networks the bare outputs and whether XNNPACK computed them.
Never: draws numbers of its own (the tails of a normal distribution go through the machine's `log`).

    python outputs.py FOLDER OUT.npz
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundles.bundle import read_bundle
from edge_agent.bundles.interpreter import Network
from edge_agent.bundles.manifest import MODEL_NAME
from edge_agent.bundles.model import model_of

INPUTS_NAME = "inputs.npz"


def outputs(folder: Path) -> dict[str, NDArray[np.float32]]:
    """`NAME`: what the pipeline gets; `NAME/network`: the int8 network's first output alone;
    `NAME/xnnpack`: 1 or 0."""
    found: dict[str, NDArray[np.float32]] = {}
    with np.load(folder / INPUTS_NAME) as inputs:
        for name in inputs.files:
            bundle = read_bundle(folder / f"{name}.otolith")
            model = model_of(bundle.manifest.model, bundle.files)
            found[name] = np.array([model(window) for window in inputs[name]])
            network = Network(bundle.files[MODEL_NAME])
            found[f"{name}/xnnpack"] = np.array(network.delegated, np.float32)
            if len(network.input_shapes) == 1:
                shape = network.input_shapes[0][1:]
                windows = inputs[name][:, : shape[0]]
                found[f"{name}/network"] = np.array([network(window)[0] for window in windows])
    return found


if __name__ == "__main__":
    np.savez(sys.argv[2], allow_pickle=False, **outputs(Path(sys.argv[1])))
