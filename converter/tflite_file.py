"""TFLite file: what is inside of a model file, and without what it can do.

In: the bytes of a `.tflite` file. Out: reasons against shipping it; the same file without names.
Never: runs the model, changes a weight.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

FILE_IDENTIFIER = b"TFL3"


def strip(model: bytes) -> bytes:
    """Without tensor names, calibration ranges and metadata: 2 to 3 kB that no gateway reads.

    Inputs and outputs come in the order of their names in the signature, which goes too: the
    converter's own order is any.
    """
    tree = _tree(model)
    for signature in tree.signatureDefs or ():
        graph = tree.subgraphs[signature.subgraphIndex]
        graph.inputs = _by_name(signature.inputs)
        graph.outputs = _by_name(signature.outputs)
    empty = [buffer.data is None or not len(buffer.data) for buffer in tree.buffers]
    for graph in tree.subgraphs:
        for tensor in graph.tensors:
            tensor.name = None
            # Inside of a loop (a float LSTM that is not fused) sizes are not known before it runs.
            if len(tree.subgraphs) == 1:
                tensor.shapeSignature = None
            # The first buffer is nobody's and empty: whoever has no data may share it.
            tensor.buffer = 0 if empty[tensor.buffer] else tensor.buffer
            _strip_ranges(tensor)
    _drop_unused_buffers(tree)
    tree.metadata, tree.description = [], None
    # Nobody asks for a signature here, and it keeps the names alive.
    tree.signatureDefs = None
    builder = flatbuffers.Builder(len(model))
    builder.Finish(tree.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())


def _strip_ranges(tensor: Any) -> None:
    spec = tensor.quantization
    if spec is None:
        return
    spec.min = spec.max = None
    if spec.scale is None or not len(spec.scale):
        tensor.quantization = None


def _drop_unused_buffers(tree: Any) -> None:
    used = sorted({0, *(tensor.buffer for graph in tree.subgraphs for tensor in graph.tensors)})
    place = {old: new for new, old in enumerate(used)}
    tree.buffers = [tree.buffers[old] for old in used]
    for graph in tree.subgraphs:
        for tensor in graph.tensors:
            tensor.buffer = place[tensor.buffer]


def _by_name(ends: Any) -> list[int]:
    return [end.tensorIndex for end in sorted(ends, key=lambda end: end.name)]


def operations(model: bytes) -> Counter[str]:
    """How often each operation occurs; custom ones as `CUSTOM name`."""
    tree = _tree(model)
    names = [_operation(code) for code in tree.operatorCodes]
    return Counter(names[op.opcodeIndex] for graph in tree.subgraphs for op in graph.operators)


def int8_objections(model: bytes, activations: str = "int8") -> list[str]:
    """Why a file is not a fully int8 model (or of int16 activations) of builtin operations; empty
    if it is."""
    tree = _tree(model)
    found = []
    graph = tree.subgraphs[0]
    ends = [graph.tensors[i].type for i in (*graph.inputs, *graph.outputs)]
    wanted = schema.TensorType.INT8 if activations == "int8" else schema.TensorType.INT16
    if any(kind != wanted for kind in ends):
        found.append(f"its input or output is not {activations}")
    names = [_operation(code) for code in tree.operatorCodes]
    floats = {
        names[op.opcodeIndex]
        for part in tree.subgraphs
        for op in part.operators
        if any(part.tensors[i].type == schema.TensorType.FLOAT32 for i in op.outputs)
    }
    if floats:
        found.append(f"operations left in float: {', '.join(sorted(floats))}")
    foreign = sorted(name for name in names if name.startswith(("CUSTOM", "FLEX")))
    if foreign:
        found.append(f"operations that are not builtin: {', '.join(foreign)}")
    if "WHILE" in names:
        found.append("an LSTM is a loop instead of one fused operation")
    return found


def _tree(model: bytes) -> Any:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(model), 0))


def _operation(code: Any) -> str:
    builtin = schema.BuiltinOperator
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    if number == builtin.CUSTOM:
        return f"CUSTOM {(code.customCode or b'').decode(errors='replace')}"
    return next(str(name) for name, value in vars(builtin).items() if value == number)
