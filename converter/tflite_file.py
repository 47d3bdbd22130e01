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
    """Without tensor names, calibration ranges and metadata: 2 to 3 kB that no gateway reads."""
    tree = _tree(model)
    for graph in tree.subgraphs:
        for tensor in graph.tensors:
            tensor.name = None
            if tensor.quantization is not None:
                tensor.quantization.min = tensor.quantization.max = None
    tree.metadata, tree.description = [], None
    # Nobody asks for a signature here, and it keeps the names alive.
    tree.signatureDefs = None
    builder = flatbuffers.Builder(len(model))
    builder.Finish(tree.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())


def operations(model: bytes) -> Counter[str]:
    """How often each operation occurs; custom ones as `CUSTOM name`."""
    tree = _tree(model)
    names = [_operation(code) for code in tree.operatorCodes]
    return Counter(names[op.opcodeIndex] for graph in tree.subgraphs for op in graph.operators)


def int8_objections(model: bytes) -> list[str]:
    """Why a file is not a fully int8 model of builtin operations; empty if it is."""
    tree = _tree(model)
    found = []
    graph = tree.subgraphs[0]
    ends = [graph.tensors[i].type for i in (*graph.inputs, *graph.outputs)]
    if any(kind != schema.TensorType.INT8 for kind in ends):
        found.append("its input or output is not int8")
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
