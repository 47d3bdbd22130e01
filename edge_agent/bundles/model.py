"""Model: the members of a bundle to one callable, whatever the network is made of.

In: what the manifest says of the network, and the members by name. Out: a `Model`, the callable
that the pipeline knows. Never: leaves it to anybody else to put a model together: gateway, replay
and converter all come through here.
"""

from __future__ import annotations

from collections.abc import Mapping

from edge_agent.bundles.interpreter import Interpreter, ModelError, Network
from edge_agent.bundles.manifest import DECODER_MODEL, MODEL_NAME, ModelSpec
from edge_agent.bundles.memory import MemoryModel, read_memory
from edge_agent.bundles.nearest import nearest
from edge_agent.bundles.stepping import SteppingModel
from edge_agent.judging.pipeline import Model


def model_of(spec: ModelSpec, files: Mapping[str, bytes]) -> Model:
    """Raises `ModelError` if the members are not the network that the manifest describes."""
    try:
        if spec.memory is not None:
            return _memory(spec, files)
        if spec.stepping is not None:
            return _stepping(spec, files)
        model = Interpreter(files[MODEL_NAME])
    except KeyError as error:
        raise ModelError(f"the bundle lacks {error.args[0]}: build it anew") from None
    _check("model", model.shape, (1, spec.steps, spec.features))
    return model


def _memory(spec: ModelSpec, files: Mapping[str, bytes]) -> Model:
    encoder, memory_spec = Network(files[MODEL_NAME]), spec.memory
    assert memory_spec is not None
    _check("encoder", encoder.input_shapes, ((1, spec.steps, spec.features),))
    count = len(encoder.output_shapes)
    dim = memory_spec.dim // count
    _check("encoder's code", encoder.output_shapes, ((1, spec.steps, dim),) * count)
    if count > 2 or dim * count != memory_spec.dim:
        raise ModelError(f"the encoder has {count} outputs, expected 1 or 2: build it anew")
    try:
        memory = read_memory(memory_spec, spec.features, files, nearest)
    except ValueError as error:
        raise ModelError(f"{error}: build the bundle anew") from None
    return MemoryModel(encoder, memory)


def _stepping(spec: ModelSpec, files: Mapping[str, bytes]) -> Model:
    stepping = spec.stepping
    assert stepping is not None
    encoder, decoder = Network(files[MODEL_NAME]), Network(files[DECODER_MODEL])
    code, state = (1, stepping.units[1]), (1, 2 * sum(stepping.units))
    rows = (1, stepping.rows, spec.features)
    _check("encoder", (encoder.input_shapes, encoder.output_shapes), ((rows, state), (state,)))
    _check("decoder", (decoder.input_shapes, decoder.output_shapes), ((code, state), (rows, state)))
    return SteppingModel(stepping, spec.steps, encoder, decoder)


def _check(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise ModelError(
            f"the {what} has shape {found}, the manifest says {expected}: build the bundle anew"
        )
