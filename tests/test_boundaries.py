"""What may load what: the gateway without a training stack, `run` without drawing."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from tests.conftest import ROOT


def loaded_by(statement: str) -> set[str]:
    """Top-level modules in memory after a fresh interpreter ran the statement."""
    script = f"{statement}\nimport sys; print(' '.join({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "module", ["edge_agent.service", "edge_agent.__main__", "edge_agent.replay"]
)
def test_the_gateway_never_loads_a_training_stack(module: str) -> None:
    loaded = loaded_by(f"import {module}")
    assert not loaded & {"tensorflow", "keras", "tf_keras", "pandas", "sklearn", "amqtt"}


def test_the_service_does_not_load_what_only_draws() -> None:
    assert not loaded_by("import edge_agent.service") & {"rich", "PIL"}


def test_commands_that_need_no_training_do_not_load_it() -> None:
    assert "tensorflow" not in loaded_by("import converter.__main__")


def test_the_core_needs_nothing_but_numpy_and_pydantic() -> None:
    loaded = loaded_by("import edge_agent.judging.pipeline")
    assert not loaded & {"serial", "paho", "ai_edge_litert", "tflite_runtime", "sqlite3", "rich"}


def importers(library: str) -> set[str]:
    """Source files that import a library, lazily or not."""
    found = set()
    for package in ("firmware_bridge", "edge_agent", "converter"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.module:
                    names.append(node.module)
                if any(name.split(".")[0] == library for name in names):
                    found.add(str(path.relative_to(ROOT)))
    return found


@pytest.mark.parametrize(
    ("library", "files"),
    [
        ("paho", {"edge_agent/broker/session.py"}),
        (
            "sqlite3",
            {
                f"edge_agent/broker/{n}.py"
                for n in ("disk", "layout", "reading", "salvage", "store", "writing")
            },
        ),
        ("serial", {"firmware_bridge/port.py"}),
        # The converter strips files with the schema that comes with the runtime.
        ("ai_edge_litert", {"edge_agent/bundles/interpreter.py", "converter/tflite_file.py"}),
        ("cryptography", {"edge_agent/bundles/signature.py"}),
        ("amqtt", {"edge_agent/demo/broker.py"}),
        ("pandas", {"converter/tables.py"}),
        ("PIL", {"edge_agent/picture/canvas.py"}),
    ],
)
def test_one_file_a_foreign_library(library: str, files: set[str]) -> None:
    assert importers(library) == files
