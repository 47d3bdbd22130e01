"""Origins: where each value of a configuration comes from.

In: the text, its document, the variables that changed it. Out: a line, a variable or neither for
any key. Never: judges a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from edge_agent.config.environment import Override
from edge_agent.config.problems import Problem
from edge_agent.config.toml_lines import KeyPath, TomlLines


class Origin(NamedTuple):
    """Of one value. Without line and variable it is the default."""

    text: str
    line: int | None = None
    variable: str = ""


class Origins:
    """Of one file and one environment."""

    def __init__(
        self, file: Path, text: str, document: Mapping[str, Any], overrides: list[Override]
    ) -> None:
        self.file = file
        self._text, self._document = text, document
        self._variables = {override.path: override.variable for override in overrides}

    def of(self, path: KeyPath) -> Origin:
        """Where the value at `path` comes from."""
        variable = self._variable(path)
        if variable:
            return Origin(f"environment {variable}", variable=variable)
        if not self._in_file(path):
            return Origin("default")
        line = self._lines.line(path)
        return Origin(f"{self.file.name}:{line}", line)

    def problem(self, path: KeyPath, told: str) -> Problem:
        """Something is wrong there, be it that nothing is there."""
        variable = (
            self._variable(path) or self._changer(path) or self._changer(path[:-1], made=True)
        )
        return Problem(path, None if variable else self._lines.line(path), told, variable)

    @cached_property
    def _lines(self) -> TomlLines:
        return TomlLines(self._text)  # which `run` with a good file needs none of

    def _variable(self, path: KeyPath) -> str:
        """The one that gave the value at `path`, or the value that it is a part of."""
        starts = (path[:end] for end in range(len(path), 0, -1))
        return next((self._variables[start] for start in starts if start in self._variables), "")

    def _changer(self, path: KeyPath, made: bool = False) -> str:
        """One that changes the table at `path`; with `made`, without which there would be none."""
        if not path or made and self._in_file(path):
            return ""
        inside = (name for known, name in self._variables.items() if known[: len(path)] == path)
        return next(inside, "")

    def _in_file(self, path: KeyPath) -> bool:
        value: Any = self._document
        for key in path:
            if isinstance(value, list) and key.isdecimal() and int(key) < len(value):
                value = value[int(key)]
            elif isinstance(value, dict) and key in value:
                value = value[key]
            else:
                return False
        return True
